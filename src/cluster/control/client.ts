import type { TLSSocket } from "node:tls";
import { reasonOf, StelliumError } from "../../errors.ts";
import type { Membership } from "../identity/membership.ts";
import { onAbort } from "./abort.ts";
import { type Address, formatAddress } from "./address.ts";
import { backoffDelay, pause } from "./backoff.ts";
import { Channel, type ChannelOptions } from "./channel.ts";
import type { HeartbeatTimes } from "./heartbeat.ts";
import type { CoordinatorMessage, Welcome, WorkerHello, WorkerMessage } from "./messages.ts";
import { connectSecurely, refusalOf } from "./secure.ts";
import { workerSide } from "./sides.ts";

const connectDeadlineMs = 5000;

/** A worker's end of a channel. */
export type CoordinatorChannel = Channel<CoordinatorMessage, WorkerMessage>;

/** A place in a cluster. */
export interface CoordinatorConnection {
  readonly welcome: Welcome;
  readonly channel: CoordinatorChannel;
  /** This device's own address towards the coordinator: the one to listen on for links. */
  readonly localAddress: string;
}

/** What a device that joins is doing. */
export type JoinState =
  | { readonly state: "connecting" }
  /** It has been let in, and waits for its place. */
  | { readonly state: "connected" }
  | { readonly state: "joined"; readonly rank: number; readonly size: number }
  /** The next try is in `delayMs`; `error` says what came of the last. */
  | { readonly state: "waiting"; readonly delayMs: number; readonly error: StelliumError };

/** How to join. */
export interface Joining {
  readonly host: string;
  readonly port: number;
  readonly membership: Membership;
  /** Version of Stellium, told to a coordinator that speaks another protocol. */
  readonly version: string;
  /** Asked at each connection, since what is in the cache changes. */
  readonly hello: () => WorkerHello | Promise<WorkerHello>;
  /** Closes the connection and ends everything with `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
  readonly onState?: (state: JoinState) => void;
  /** Asked for the coordinator's address before each further try, where that may have changed. */
  readonly relocate?: ((signal: AbortSignal | undefined) => Promise<Address>) | undefined;
  readonly heartbeat?: HeartbeatTimes | undefined;
  /** Version of the protocol; another than ours only in tests. */
  readonly protocol?: number | undefined;
}

/**
 * Joins a coordinator, and joins again whenever the connection has ended: yields each connection, which is closed when
 * the next one is asked for or the loop is left. Waits (0.2 to 10 s, with jitter) for a coordinator that is not there.
 * Throws `TOKEN_REJECTED`, `DEVICE_UNKNOWN`, `DEVICE_REMOVED`, `VERSION_MISMATCH`, `ABORTED`, and `PROTOCOL_VIOLATION` if
 * something else answers.
 */
export async function* joinCoordinator(first: Joining): AsyncGenerator<CoordinatorConnection, never> {
  const { onState, signal, relocate } = first;
  let options = first;
  for (let attempt = 0; ; attempt++) {
    onState?.({ state: "connecting" });
    const outcome = await tryToJoin(options);
    const failed = outcome instanceof StelliumError;
    if (!failed) attempt = 0;
    const error = failed ? outcome : yield* lend(outcome, options);
    if (signal?.aborted) throwAborted();
    if (error.code === "DEVICE_REMOVED") throw error;
    const delayMs = backoffDelay(attempt);
    onState?.({ state: "waiting", delayMs, error });
    await pause(delayMs, signal).catch(throwAborted);
    if (relocate) options = { ...first, ...(await relocate(signal)) };
  }
}

/** Whether this device's coordinator answers there: a handshake, and no more than that. Never rejects. */
export async function isCoordinatorAt(
  options: Pick<Joining, "host" | "port" | "membership" | "signal">,
): Promise<boolean> {
  const socket = connectSecurely(options, options.membership.credential);
  const deadline = setTimeout(() => socket.destroy(new Error("no answer in time")), connectDeadlineMs);
  try {
    await secured(socket, options);
    // The other side is to see the handshake's end before that of the connection.
    socket.on("error", () => {}).setTimeout(connectDeadlineMs, () => socket.destroy());
    socket.end();
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(deadline);
  }
}

/** Hands a connection to the loop's body, and returns how it ended. */
async function* lend(
  connection: CoordinatorConnection,
  options: Joining,
): AsyncGenerator<CoordinatorConnection, StelliumError> {
  const { rank, size } = connection.welcome;
  options.onState?.({ state: "joined", rank, size });
  try {
    yield connection;
  } finally {
    await connection.channel.close("the device left");
  }
  return await endOf(connection.channel, options);
}

/** How a connection ended, as an error. A device that its coordinator has removed remembers that. */
async function endOf(
  channel: CoordinatorChannel,
  { host, port, membership }: Pick<Joining, "host" | "port" | "membership">,
): Promise<StelliumError> {
  const { error, reason, removed, by } = await channel.ended;
  if (by === "peer" && removed && membership.isAdmitted) return await membership.leave();
  return error ?? new StelliumError("COORDINATOR_LOST", { address: formatAddress({ host, port }), reason });
}

/** A connection, or why there is none yet. Throws what no further try can mend. */
async function tryToJoin(options: Joining): Promise<CoordinatorConnection | StelliumError> {
  if (options.signal?.aborted) throwAborted();
  try {
    return await connectOnce(options);
  } catch (error) {
    if (options.signal?.aborted) throwAborted();
    if (error instanceof StelliumError && error.code === "COORDINATOR_LOST") return error;
    throw error;
  }
}

async function connectOnce(options: Joining): Promise<CoordinatorConnection> {
  const { onState } = options;
  const socket = connectSecurely(options, options.membership.credential);
  const deadline = setTimeout(() => socket.destroy(new Error("no answer in time")), connectDeadlineMs);
  try {
    await secured(socket, options);
    const localAddress = socket.localAddress ?? "0.0.0.0";
    const channel = await Channel.open(socket, channelOptions(options));
    clearTimeout(deadline);
    onState?.({ state: "connected" });
    return { welcome: await introduce(channel, options), channel, localAddress };
  } finally {
    clearTimeout(deadline);
  }
}

/** Waits for the handshake; what comes after, the channel stops by the signal itself. */
function secured(
  socket: TLSSocket,
  { host, port, membership, signal }: Pick<Joining, "host" | "port" | "membership" | "signal">,
): Promise<void> {
  const address = formatAddress({ host, port });
  const forget = onAbort(signal, () => socket.destroy());
  const handshake = new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => {
      socket.destroy();
      reject(connectionError(error, address, membership));
    };
    const closed = () => fail(new Error("it closed the connection"));
    socket.once("error", fail).once("close", closed);
    socket.once("secureConnect", () => {
      socket.off("error", fail).off("close", closed);
      resolve();
    });
  });
  return handshake.finally(forget);
}

function connectionError(error: Error, address: string, { isAdmitted, path }: Membership): StelliumError {
  const refusal = refusalOf(error);
  const refused = isAdmitted ? "DEVICE_UNKNOWN" : "TOKEN_REJECTED";
  if (refusal === "key") return new StelliumError(refused, { address, path }, { cause: error });
  // A name with several addresses fails with an error for all of them, which has a code and no message.
  const unreachable = reasonOf(error) || ("code" in error ? String(error.code) : error.name);
  const reason = refusal === "stranger" ? "it is no Stellium coordinator" : unreachable;
  if (refusal === "unreachable") return new StelliumError("COORDINATOR_LOST", { address, reason }, { cause: error });
  return new StelliumError("PROTOCOL_VIOLATION", { peer: `the program at ${address}`, reason }, { cause: error });
}

/** Says hello and waits for the place, for as long as the coordinator lives: it may wait for other devices. */
async function introduce(channel: CoordinatorChannel, options: Joining): Promise<Welcome> {
  try {
    await channel.send(await options.hello());
    const { value } = await afterIdentity(channel, options.membership);
    if (value?.type === "welcome") return value;
    throw new StelliumError("COORDINATOR_LOST", { address: formatAddress(options), reason: "it did not say welcome" });
  } catch (error) {
    if (!channel.isOpen) throw await endOf(channel, options);
    await channel.close(`the device could not join: ${reasonOf(error)}`);
    throw error;
  }
}

/** The first message besides the key that this device is given when it is admitted. */
async function afterIdentity(channel: CoordinatorChannel, membership: Membership) {
  const first = await channel.next();
  if (first.value?.type !== "identity" || membership.isAdmitted) return first;
  await membership.keep(first.value);
  return await channel.next();
}

function channelOptions(options: Joining): ChannelOptions<CoordinatorMessage, WorkerMessage> {
  const { host, port, version, protocol, heartbeat, signal } = options;
  const address = formatAddress({ host, port });
  const lost = (reason: string) => new StelliumError("COORDINATOR_LOST", { address, reason });
  const peer = () => `the coordinator at ${address}`;
  return { side: workerSide, version, protocol, heartbeat, signal, peer, lost };
}

function throwAborted(): never {
  throw new StelliumError("ABORTED", { reason: "stopped" });
}
