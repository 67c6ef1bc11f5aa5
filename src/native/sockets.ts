import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import { StelliumError } from "../errors.ts";
import koffi from "./koffi.ts";
import { socketAddress } from "./socketAddress.ts";

/**
 * TCP through the system's own calls, for threads that block on purpose: a round trip takes a fraction of what it does
 * through node:net. Sockets never block by themselves; `PollSet` waits for them, always with an end.
 */

/** A socket's descriptor: a number that means the same in every thread of the process. */
export type Socket = number;

/** What a socket is waited for. */
export const readiness = { readable: 1, writable: 4 } as const;

/** A socket call failed, or the other side closed the connection (`ENDED`), or time ran out (`ETIMEDOUT`). */
export class SocketError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "SocketError";
    this.code = code;
  }
}

/** Names of `<sys/socket.h>` and `<fcntl.h>` whose numbers differ between systems. */
const numbers =
  process.platform === "darwin"
    ? { nonBlocking: 0x4, solSocket: 0xffff, reuseAddress: 0x4, socketError: 0x1007, noSignal: 0, sendBuffer: 0x1001 }
    : { nonBlocking: 0x800, solSocket: 1, reuseAddress: 2, socketError: 4, noSignal: 0x4000, sendBuffer: 7 };
const streamSocket = 1;
const setDescriptorFlags = { command: 2, closeOnExec: 1 };
const setStatusFlags = 4;
const tcp = { level: 6, noDelay: 1, quickAck: 12 };
/** macOS has no flag against SIGPIPE per call, but an option. */
const noSigpipe = 0x1022;
const shutdownDirections = { writing: 1, both: 2 };
/** poll(2) takes an int; what waits for longer asks again. */
const longestPollMs = 2 ** 30;
const { EAGAIN, EINTR, EINPROGRESS } = constants.errno;

type Calls = ReturnType<typeof bind>;
let bound: Calls | undefined;

function calls(): Calls {
  bound ??= bind();
  return bound;
}

function bind() {
  if (process.platform === "win32") {
    throw new StelliumError("LINKS_UNSUPPORTED", { platform: "Windows", reason: "its sockets are not bound yet" });
  }
  const libc = koffi.load(null);
  const fn = <T>(definition: string) => libc.func(definition) as unknown as T;
  return {
    socket: fn<(family: number, type: number, protocol: number) => Socket>("int socket(int, int, int)"),
    bind: fn<(socket: Socket, address: Uint8Array, bytes: number) => number>("int bind(int, void *, uint32_t)"),
    listen: fn<(socket: Socket, backlog: number) => number>("int listen(int, int)"),
    accept: fn<(socket: Socket, address: null, bytes: null) => Socket>("int accept(int, void *, void *)"),
    connect: fn<(socket: Socket, address: Uint8Array, bytes: number) => number>("int connect(int, void *, uint32_t)"),
    send: fn<(socket: Socket, data: Uint8Array, bytes: number, flags: number) => number>(
      "intptr_t send(int, void *, size_t, int)",
    ),
    recv: fn<(socket: Socket, data: Uint8Array, bytes: number, flags: number) => number>(
      "intptr_t recv(int, void *, size_t, int)",
    ),
    setOption: fn<(socket: Socket, level: number, name: number, value: Int32Array, bytes: number) => number>(
      "int setsockopt(int, int, int, void *, uint32_t)",
    ),
    getOption: fn<(socket: Socket, level: number, name: number, value: Int32Array, bytes: Uint32Array) => number>(
      "int getsockopt(int, int, int, void *, void *)",
    ),
    localAddress: fn<(socket: Socket, address: Uint8Array, bytes: Uint32Array) => number>(
      "int getsockname(int, void *, void *)",
    ),
    control: fn<(socket: Socket, command: number, type: "int", value: number) => number>("int fcntl(int, int, ...)"),
    poll: fn<(sockets: Int32Array, count: number, timeoutMs: number) => number>("int poll(void *, unsigned long, int)"),
    shutdown: fn<(socket: Socket, how: number) => number>("int shutdown(int, int)"),
    close: fn<(socket: Socket) => number>("int close(int)"),
  };
}

/** Listens on a numeric address. Port 0 lets the system choose; `port` says which it is. */
export function listenOn(host: string, port = 0, backlog = 128): { readonly socket: Socket; readonly port: number } {
  const address = socketAddress(host, port);
  const socket = openSocket(address.family);
  try {
    setOption(socket, numbers.solSocket, numbers.reuseAddress, 1);
    checked(calls().bind(socket, address.bytes, address.bytes.length), `binding to ${host}`);
    checked(calls().listen(socket, backlog), `listening on ${host}`);
    return { socket, port: portOf(socket) };
  } catch (error) {
    closeSocket(socket);
    throw error;
  }
}

/** The next connection that waits at a listener, or undefined where none does. */
export function tryAccept(listener: Socket): Socket | undefined {
  const socket = calls().accept(listener, null, null);
  if (socket >= 0) return prepareStream(socket);
  const number = koffi.errno();
  if (number === EAGAIN || number === EINTR || number === constants.errno.ECONNABORTED) return undefined;
  throw systemError(number, "accepting");
}

/** Waits for a connection at a listener until `deadline`, a time of `performance.now()`. */
export function acceptFrom(listener: Socket, deadline: number): Socket {
  for (;;) {
    const socket = tryAccept(listener);
    if (socket !== undefined) return socket;
    waitFor(listener, readiness.readable, deadline);
  }
}

/** Connects to a numeric address until `deadline`, a time of `performance.now()`. */
export function connectTo(host: string, port: number, deadline: number): Socket {
  const address = socketAddress(host, port);
  const socket = prepareStream(openSocket(address.family));
  try {
    if (calls().connect(socket, address.bytes, address.bytes.length) < 0) finishConnecting(socket, deadline);
    return socket;
  } catch (error) {
    closeSocket(socket);
    throw error;
  }
}

function finishConnecting(socket: Socket, deadline: number): void {
  const number = koffi.errno();
  // An interrupted connect goes on by itself.
  if (number !== EINPROGRESS && number !== EINTR) throw systemError(number, "connecting");
  waitFor(socket, readiness.writable, deadline);
  const value = new Int32Array(1);
  checked(calls().getOption(socket, numbers.solSocket, numbers.socketError, value, Uint32Array.of(4)), "connecting");
  if (value[0] !== 0) throw systemError(value[0]!, "connecting");
}

/** Sends what the system takes at once of `bytes`, and says how many that were: 0 where its buffer is full. */
export function trySend(socket: Socket, bytes: Uint8Array): number {
  const sent = calls().send(socket, bytes, bytes.length, numbers.noSignal);
  return sent >= 0 ? sent : orNothing("sending");
}

/** Receives what is there, at most what fits into `bytes`: 0 where there is nothing. Throws `ENDED` at the end. */
export function tryReceive(socket: Socket, bytes: Uint8Array): number {
  const received = calls().recv(socket, bytes, bytes.length, 0);
  if (received > 0 || bytes.length === 0) return received;
  if (received === 0) throw new SocketError("ENDED", "the connection was closed");
  return orNothing("receiving");
}

function orNothing(operation: string): 0 {
  const number = koffi.errno();
  if (number === EAGAIN || number === EINTR) return 0;
  throw systemError(number, operation);
}

/** Sends all of `bytes` until `deadline`, a time of `performance.now()`. */
export function sendAll(socket: Socket, bytes: Uint8Array, deadline: number): void {
  for (let sent = 0; sent < bytes.length; ) {
    const more = trySend(socket, bytes.subarray(sent));
    if (more === 0) waitFor(socket, readiness.writable, deadline);
    sent += more;
  }
}

/** Fills all of `bytes` until `deadline`, a time of `performance.now()`. */
export function receiveExact(socket: Socket, bytes: Uint8Array, deadline: number): void {
  for (let received = 0; received < bytes.length; ) {
    const more = tryReceive(socket, received === 0 ? bytes : bytes.subarray(received));
    if (more === 0) waitFor(socket, readiness.readable, deadline);
    received += more;
  }
}

/** Ends a connection in both directions: whoever waits for it, in any thread, wakes up. The descriptor stays open. */
export function shutdownSocket(socket: Socket): void {
  calls().shutdown(socket, shutdownDirections.both);
}

/** Says that nothing more will be sent; what was sent before still arrives. */
export function endSending(socket: Socket): void {
  calls().shutdown(socket, shutdownDirections.writing);
}

/** Frees a socket. Its number may mean another one afterwards. */
export function closeSocket(socket: Socket): void {
  calls().close(socket);
}

/** Sockets that are waited for together: the `pollfd` structures of poll(2). Made once, filled for every wait. */
export class PollSet {
  readonly #entries: Int32Array;
  #count = 0;

  /** Room for `capacity` sockets. */
  constructor(capacity: number) {
    this.#entries = new Int32Array(2 * capacity);
  }

  clear(): void {
    this.#count = 0;
  }

  /** Waits for `events` of a socket, too. Returns the index to ask `ready` by. */
  add(socket: Socket, events: number): number {
    this.#entries[2 * this.#count] = socket;
    this.#entries[2 * this.#count + 1] = events;
    return this.#count++;
  }

  /** Waits until one socket is ready. Throws `ETIMEDOUT` from `deadline` on, a time of `performance.now()`. */
  wait(deadline: number): void {
    for (;;) {
      const left = Math.min(Math.ceil(deadline - performance.now()), longestPollMs);
      if (left <= 0) throw new SocketError("ETIMEDOUT", "there was no answer in time");
      const ready = calls().poll(this.#entries, this.#count, left);
      if (ready > 0) return;
      if (ready < 0 && koffi.errno() !== EINTR) throw systemError(koffi.errno(), "waiting");
    }
  }

  /** Whether the last wait ended for this socket: for what it was waited for, or because it broke. */
  ready(index: number): boolean {
    return this.#entries[2 * index + 1]! >>> 16 !== 0;
  }
}

function waitFor(socket: Socket, events: number, deadline: number): void {
  const set = new PollSet(1);
  set.add(socket, events);
  set.wait(deadline);
}

function openSocket(family: number): Socket {
  const socket = checked(calls().socket(family, streamSocket, 0), "opening a socket");
  return withoutBlocking(socket);
}

function withoutBlocking(socket: Socket): Socket {
  const { control } = calls();
  control(socket, setDescriptorFlags.command, "int", setDescriptorFlags.closeOnExec);
  checked(control(socket, setStatusFlags, "int", numbers.nonBlocking), "opening a socket");
  return socket;
}

/** What Linux lets a program ask for, unless it was set up otherwise. */
export const mostLimit = 208 * 1024;

/**
 * Lets about so many bytes, `mostLimit` at most, be sent that the peer has not acknowledged. The system's own limit
 * grows with what the link takes; this one does not.
 */
export function limitSending(socket: Socket, bytes: number): void {
  setOption(socket, numbers.solSocket, numbers.sendBuffer, bytes);
}

/** What every connection gets. */
function prepareStream(socket: Socket): Socket {
  withoutBlocking(socket);
  setOption(socket, tcp.level, tcp.noDelay, 1);
  if (process.platform === "linux") setOption(socket, tcp.level, tcp.quickAck, 1);
  if (process.platform === "darwin") setOption(socket, numbers.solSocket, noSigpipe, 1);
  return socket;
}

function setOption(socket: Socket, level: number, name: number, value: number): void {
  // A connection that is gone already refuses its options; using it says so.
  calls().setOption(socket, level, name, Int32Array.of(value), 4);
}

function portOf(socket: Socket): number {
  const address = new Uint8Array(28);
  checked(calls().localAddress(socket, address, Uint32Array.of(address.length)), "listening");
  return new DataView(address.buffer).getUint16(2);
}

function checked(result: number, operation: string): number {
  if (result < 0) throw systemError(koffi.errno(), operation);
  return result;
}

function systemError(number: number, operation: string): SocketError {
  const [code, text] = getSystemErrorMap().get(-number) ?? [`E${number}`, "unknown error"];
  return new SocketError(code, `${operation} failed: ${text} (${code})`);
}
