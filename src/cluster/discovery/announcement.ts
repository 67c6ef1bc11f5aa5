import { randomBytes } from "node:crypto";
import { isIPv4 } from "node:net";
import type { MulticastDNS } from "multicast-dns";
import { log } from "../../log.ts";
import type { Address } from "../control/address.ts";
import { openMulticast, serviceType } from "./multicast.ts";

/** RFC 6762 allows no more than one in so many milliseconds: whoever asks all the time is answered with others. */
const quietMs = 1000;

/** Seconds for which others may remember where a coordinator is. */
const lifetime = 120;

/** Where a coordinator listens, and on which interface to tell. */
export interface AnnouncementOptions {
  /** The host it listens on, maybe a wildcard. */
  readonly host: string;
  /** Under which addresses it can be reached. */
  readonly addresses: readonly Address[];
}

/**
 * Tells the local network by multicast DNS where a coordinator listens, until disposed. It holds an address, a port and a
 * random name: nothing of the token, the model or the device. Where multicast does not work, a line in the log says so,
 * and devices join by the address.
 */
export class Announcement implements AsyncDisposable {
  readonly #mdns: MulticastDNS;
  readonly #name = `stellium-${randomBytes(4).toString("hex")}`;
  readonly #addresses: readonly Address[];
  readonly #closed: Promise<void>;
  #close = () => {};
  #quiet: NodeJS.Timeout | undefined;
  #askedMeanwhile = false;

  constructor({ host, addresses }: AnnouncementOptions) {
    this.#addresses = addresses;
    this.#closed = new Promise((resolve) => {
      this.#close = resolve;
    });
    this.#mdns = openMulticast(host, (reason) => log("info", `devices cannot find this one by themselves: ${reason}`));
    this.#mdns.on("query", ({ questions }) => {
      if (questions?.some(({ name, type }) => type === "PTR" && name.toLowerCase() === serviceType)) this.#answer();
    });
    this.#mdns.on("ready", () => this.#answer());
  }

  /** Takes the announcement back. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#quiet);
    this.#tell(0, () => this.#mdns.destroy(this.#close));
    await this.#closed;
  }

  /** Tells now or, if that was done a moment ago, as soon as it may be done again. */
  #answer(): void {
    this.#askedMeanwhile = this.#quiet !== undefined;
    if (this.#askedMeanwhile) return;
    this.#tell(lifetime);
    this.#quiet = setTimeout(() => {
      this.#quiet = undefined;
      if (this.#askedMeanwhile) this.#answer();
    }, quietMs).unref();
  }

  #tell(ttl: number, done?: () => void): void {
    const { port } = this.#addresses[0]!;
    const instance = `${this.#name}.${serviceType}`;
    const target = `${this.#name}.local`;
    const hosts = this.#addresses.map(({ host }) => host).filter((host) => isIPv4(host));
    this.#mdns.respond(
      {
        answers: [{ name: serviceType, type: "PTR", ttl, data: instance }],
        additionals: [
          { name: instance, type: "SRV", ttl, data: { target, port, priority: 0, weight: 0 } },
          ...hosts.map((data) => ({ name: target, type: "A" as const, ttl, data })),
        ],
      },
      done,
    );
  }
}
