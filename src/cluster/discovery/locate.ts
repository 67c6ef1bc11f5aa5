import { isIPv4 } from "node:net";
import type { MulticastDNS, ResponsePacket } from "multicast-dns";
import { StelliumError } from "../../errors.ts";
import { onAbort } from "../control/abort.ts";
import { type Address, parseAddress } from "../control/address.ts";
import { isCoordinatorAt } from "../control/client.ts";
import type { Membership } from "../identity/membership.ts";
import { AnnouncedAddresses } from "./announcedAddresses.ts";
import { openMulticast, serviceType } from "./multicast.ts";

const questionEveryMs = 1000;
/** Addresses that are tried at once, each for 5 s at most: all senders that are remembered get their turn in 40 s. */
const mostTries = 32;
/** Addresses of one announcement that are looked at. */
const mostHosts = 4;

/** What to look for, and where. */
export interface LocateOptions {
  readonly membership: Membership;
  /** Address of the network interface to look on; all of them if absent. */
  readonly via?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told once, where multicast does not work here. */
  readonly onTrouble?: (reason: string) => void;
}

/**
 * Finds this device's coordinator by multicast DNS, for as long as it takes. An announcement is no more than an address to
 * try: in a handshake that gives nothing away, a program there has to prove that it knows this device's key, or the token
 * if the device has no key yet. Throws `ABORTED`.
 */
export async function locateCoordinator(options: LocateOptions): Promise<Address> {
  using search = new Search(options);
  return await search.found;
}

class Search implements Disposable {
  /** The first address where the coordinator answers. */
  readonly found: Promise<Address>;
  readonly #options: LocateOptions;
  readonly #mdns: MulticastDNS;
  readonly #ended = new AbortController();
  readonly #announced = new AnnouncedAddresses();
  readonly #timer: NodeJS.Timeout;
  readonly #forgetSignal: () => void;
  #tries = 0;
  #resolve: (address: Address) => void = () => {};

  constructor(options: LocateOptions) {
    this.#options = options;
    this.#mdns = openMulticast(options.via ?? "0.0.0.0", options.onTrouble ?? (() => {}));
    this.#mdns.on("ready", () => this.#ask()).on("networkInterface", () => this.#ask());
    this.#mdns.on("response", (packet, { address }) => this.#take(packet, address));
    this.#timer = setInterval(() => this.#ask(), questionEveryMs);
    let reject: (error: Error) => void = () => {};
    this.found = new Promise((resolve, rejectFound) => {
      this.#resolve = resolve;
      reject = rejectFound;
    });
    const stop = () => reject(new StelliumError("ABORTED", { reason: "stopped" }));
    this.#forgetSignal = onAbort(options.signal, stop);
    if (options.signal?.aborted) stop();
  }

  [Symbol.dispose](): void {
    this.#forgetSignal();
    clearInterval(this.#timer);
    this.#ended.abort();
    this.#mdns.destroy();
  }

  #ask(): void {
    this.#mdns.query(serviceType, "PTR");
  }

  #take(packet: ResponsePacket, sender: string): void {
    this.#announced.add(sender, announcedIn(packet, sender));
    this.#tryNext();
  }

  /** Tries as many at once as may be. */
  #tryNext(): void {
    while (this.#tries < mostTries) {
      const address = this.#announced.next();
      if (address === undefined) return;
      void this.#try(address);
    }
  }

  async #try(address: Address): Promise<void> {
    this.#tries++;
    const { membership } = this.#options;
    const found = await isCoordinatorAt({ ...address, membership, signal: this.#ended.signal });
    this.#tries--;
    if (found) this.#resolve(address);
    else if (!this.#ended.signal.aborted) this.#tryNext();
  }
}

/** Where a response says that coordinators are: at the address that it came from, or at one that it names. */
function announcedIn({ answers = [], additionals = [] }: ResponsePacket, sender: string): Address[] {
  const records = [...answers, ...additionals];
  if (!records.some((record) => record.type === "PTR" && record.name.toLowerCase() === serviceType)) return [];
  const port = records.find((record) => record.type === "SRV")?.data.port ?? 0;
  const named = records.flatMap((record) => (record.type === "A" ? [record.data] : []));
  const hosts = new Set([sender, ...named].filter((host) => isIPv4(host)).slice(0, mostHosts));
  return port > 0 ? [...hosts].map((host) => parseAddress(`${host}:${port}`)) : [];
}
