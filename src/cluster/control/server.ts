import type { Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { reasonOf, StelliumError } from "../../errors.ts";
import { log } from "../../log.ts";
import type { Standing } from "../identity/deviceRegister.ts";
import { onAbort } from "./abort.ts";
import { type Address, formatAddress, plainHost, reachableHosts } from "./address.ts";
import { Admission, type AdmissionLimits, defaultLimits } from "./admission.ts";
import { Channel, type ChannelOptions } from "./channel.ts";
import { ConnectedDevices, type DeviceRules } from "./connectedDevices.ts";
import { fittingText } from "./fields.ts";
import { Inbox } from "./inbox.ts";
import type { CoordinatorMessage, WorkerHello, WorkerMessage } from "./messages.ts";
import { type AcceptedSocket, createServer, secureAcceptor } from "./secure.ts";
import { coordinatorSide } from "./sides.ts";

/** Devices that have joined and that nobody has taken yet; more have to wait outside. */
const mostUntaken = 64;

/** The coordinator's end of a channel. */
export type WorkerChannel = Channel<WorkerMessage, CoordinatorMessage>;

/** A worker that knows the token, or has a key, and has said who it is. It expects a `welcome`. */
export interface WorkerConnection {
  /** Its id; undefined if it has no key of its own. */
  readonly device: string | undefined;
  readonly hello: WorkerHello;
  /** Where it connected from. */
  readonly remoteAddress: string;
  readonly channel: WorkerChannel;
}

/** How to listen. */
export interface ListenOptions extends DeviceRules {
  /** Default `0.0.0.0`. */
  readonly host?: string | undefined;
  /** Default 0: any free port. */
  readonly port?: number | undefined;
  /** Version of Stellium, told to a peer that speaks another protocol. */
  readonly version: string;
  /** Stops listening and closes all channels. */
  readonly signal?: AbortSignal | undefined;
  readonly limits?: AdmissionLimits | undefined;
  /** Version of the protocol; another than ours only in tests. */
  readonly protocol?: number | undefined;
  /** Told of each connection that did not become a worker. */
  readonly onDrop?: (from: string, reason: string) => void;
}

/**
 * Starts to listen for workers. Rejects with `BAD_USAGE` where the address cannot be listened on, and with `ABORTED`.
 */
export function listenForWorkers(options: ListenOptions): Promise<WorkerListener> {
  return WorkerListener.open(options);
}

/** Workers, in the order in which they join: one reader iterates them. Ends when closed. */
export class WorkerListener implements AsyncDisposable {
  readonly #options: ListenOptions;
  readonly #server: Server;
  readonly #secure: (socket: Socket) => AcceptedSocket;
  readonly #admission: Admission;
  readonly #joined = new Inbox<WorkerConnection>();
  readonly #connected: ConnectedDevices;
  #forgetSignal = () => {};
  #closed: Promise<void> | undefined;

  /** See `listenForWorkers`. */
  static async open(options: ListenOptions): Promise<WorkerListener> {
    if (options.signal?.aborted) throw new StelliumError("ABORTED", { reason: "stopped" });
    const listener = new WorkerListener(options);
    await listener.#listen();
    return listener;
  }

  private constructor(options: ListenOptions) {
    this.#options = options;
    this.#secure = secureAcceptor((identity) => options.register.keyFor(identity));
    this.#connected = new ConnectedDevices(options);
    this.#admission = new Admission(options.limits ?? defaultLimits);
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  /** Under which addresses others may reach it, the most plausible first. */
  get addresses(): Address[] {
    const { port } = this;
    return reachableHosts(this.#options.host ?? "0.0.0.0").map((host) => ({ host, port }));
  }

  /** `HOST:PORT` for the join line. */
  get address(): string {
    return formatAddress(this.addresses[0]!);
  }

  /** Connections that have not introduced themselves. */
  get pending(): number {
    return this.#admission.pending;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WorkerConnection, void> {
    for await (const worker of this.#joined) {
      if (worker.channel.isOpen) yield worker;
    }
  }

  /** Stops listening, and drops who has not been taken yet. Channels that were taken belong to who took them. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #listen(): Promise<void> {
    const { host = "0.0.0.0", port = 0, signal } = this.#options;
    this.#forgetSignal = onAbort(signal, () => void this.close());
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error) => {
        this.#forgetSignal();
        this.#connected[Symbol.dispose]();
        const detail = `cannot listen on ${formatAddress({ host, port })}: ${reasonOf(error)}`;
        reject(new StelliumError("BAD_USAGE", { detail }, { cause: error }));
      });
      this.#server.listen({ host, port }, () => {
        this.#server.removeAllListeners("error").on("error", (error) => this.#drop("?", reasonOf(error)));
        resolve();
      });
    });
  }

  async #close(): Promise<void> {
    this.#forgetSignal();
    this.#connected[Symbol.dispose]();
    // The server reports its end only after that of all connections, also of those that go on.
    this.#server.close();
    this.#admission.close();
    this.#joined.end();
    const untaken = this.#joined.clear();
    await Promise.all(untaken.map(({ channel }) => channel.close("the coordinator stopped")));
  }

  #accept(socket: Socket): void {
    const from = plainHost(socket.remoteAddress);
    const { secure, identity } = this.#secure(socket);
    this.#admission.enter(secure);
    const refused = (error?: NodeJS.ErrnoException) => {
      secure.off("close", refused);
      this.#drop(from, `no handshake (${error?.code ?? "closed, or not in time"})`);
    };
    // Until the handshake is done only OpenSSL sees what a stranger sends.
    secure.on("error", ignore).once("error", refused).once("close", refused);
    secure.once("secure", () => {
      secure.off("error", refused).off("close", refused);
      const standing = this.#options.register.standingOf(identity());
      if (standing === undefined) {
        secure.destroy();
        return this.#drop(from, "it resumed a session, which proves no identity");
      }
      this.#greet(secure, from, standing).catch((error: unknown) => this.#turnAway(from, error));
    });
  }

  async #greet(secure: TLSSocket, from: string, standing: Standing): Promise<void> {
    let peer = from;
    const channel: WorkerChannel = await Channel.open(
      secure,
      this.#channelOptions(() => peer),
    );
    if (standing.by === "key" && standing.removed) return channel.close("it was removed", true);
    const hello = await firstHello(channel);
    peer = hello.name;
    this.#admission.leave(secure);
    if (this.#closed || this.#joined.length >= mostUntaken)
      return channel.close("the coordinator takes no more devices");
    const device = standing.by === "key" ? standing.device : await this.#issueKey(channel, hello);
    if (device !== undefined) await this.#connected.endOfEarlier(device);
    this.#take({ device, hello, remoteAddress: from, channel });
  }

  #take(worker: WorkerConnection): void {
    const { device, channel } = worker;
    const other = device === undefined ? undefined : this.#connected.get(device);
    if (other !== undefined) return void channel.close(twiceReason(other));
    if (this.#closed) return void channel.close("the coordinator stopped");
    if (!channel.isOpen) return;
    if (device !== undefined) this.#connected.add(device, worker);
    this.#joined.push(worker, () => {});
    // One that has gone again takes no room among those that wait.
    void channel.ended.then(() => this.#joined.remove(worker));
  }

  /** Gives a device that was admitted by the token a key of its own, if both sides can keep one. Returns its id. */
  async #issueKey(channel: WorkerChannel, { name, keepsKey }: WorkerHello): Promise<string | undefined> {
    const issued = keepsKey ? await this.#options.register.issue() : undefined;
    if (issued === undefined) return undefined;
    await channel.send({ type: "identity", ...issued });
    log("info", `admitted ${name} by the token; from now on it has a key of its own`, { id: issued.device });
    return issued.device;
  }

  #channelOptions(peer: () => string): ChannelOptions<WorkerMessage, CoordinatorMessage> {
    const { version, protocol, heartbeat, signal } = this.#options;
    const lost = (reason: string) => new StelliumError("WORKER_LOST", { device: peer(), reason });
    return { side: coordinatorSide, version, protocol, heartbeat, signal, peer, lost };
  }

  /** One that knows the token and hangs up may only have looked whether this is its coordinator: nothing to warn of. */
  #turnAway(from: string, error: unknown): void {
    const hungUp = error instanceof StelliumError && error.code === "WORKER_LOST";
    if (hungUp) this.#options.onDrop?.(from, reasonOf(error));
    else this.#drop(from, reasonOf(error));
  }

  #drop(from: string, reason: string): void {
    // At its own end, those that come are dropped as well: no news to anybody.
    if (this.#closed || this.#options.signal?.aborted) return;
    this.#admission.dropped(from, fittingText(reason, 200));
    this.#options.onDrop?.(from, reason);
  }
}

function ignore(): void {}

function twiceReason({ hello, remoteAddress }: WorkerConnection): string {
  const connected = `a device with the same key is connected already (${hello.name}, from ${remoteAddress})`;
  return `${connected}; if one has a copy of the other's disk, delete the folder "joined" from its cache directory`;
}

async function firstHello(channel: WorkerChannel): Promise<WorkerHello> {
  const { value } = await channel.next();
  if (value?.type === "hello") return value;
  await channel.close("a device introduces itself by hello");
  throw new Error("it did not introduce itself");
}
