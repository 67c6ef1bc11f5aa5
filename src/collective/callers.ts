import { closeSocket, PollSet, readiness, type Socket, tryAccept, tryReceive, trySend } from "../native/sockets.ts";
import type { CipherName } from "./cipher.ts";
import { FrameError, frameType } from "./frame.ts";
import {
  checkGreeting,
  claimedRank,
  greetingBytes,
  type LinkKeys,
  linkCiphers,
  newChallenge,
  writeGreeting,
} from "./handshake.ts";
import { Link } from "./link.ts";

/** Where callers come in, and how their links are to be. */
export interface Reception {
  readonly listener: Socket;
  readonly cipher: CipherName;
  readonly maxPayload: number;
}

/** Callers that may be connected at once; the oldest makes way for one more. */
const maxCallers = 64;

/** Whoever has connected and not proved yet who they are. One that is silent does not keep the others waiting. */
export class Callers implements Disposable {
  readonly #reception: Reception;
  readonly #callers = new Set<Caller>();
  readonly #set = new PollSet(maxCallers + 1);

  constructor(reception: Reception) {
    this.#reception = reception;
  }

  /**
   * Waits for something to happen, and returns the links of those that proved to be one of `expected`, if any. Throws
   * `SocketError` at `deadline`, a time of `performance.now()`.
   */
  advance(expected: ReadonlyMap<number, LinkKeys>, deadline: number): Link[] {
    this.#wait(deadline);
    const links = new Map<number, Link>();
    for (const caller of this.#callers) {
      const link = this.#advance(caller, expected, links);
      if (link !== undefined) links.set(link.peer, link);
    }
    if (links.size === 0) this.#welcome();
    return [...links.values()];
  }

  #wait(deadline: number): void {
    this.#set.clear();
    this.#set.add(this.#reception.listener, readiness.readable);
    for (const caller of this.#callers) this.#set.add(caller.socket, readiness.readable);
    this.#set.wait(deadline);
  }

  #advance(caller: Caller, expected: ReadonlyMap<number, LinkKeys>, links: Map<number, Link>): Link | undefined {
    try {
      const link = caller.advance((rank) => (links.has(rank) ? undefined : expected.get(rank)));
      if (link !== undefined) this.#callers.delete(caller);
      return link;
    } catch {
      this.#drop(caller);
      return undefined;
    }
  }

  #welcome(): void {
    const socket = tryAccept(this.#reception.listener);
    if (socket === undefined) return;
    const [oldest] = this.#callers;
    if (this.#callers.size === maxCallers && oldest !== undefined) this.#drop(oldest);
    this.#callers.add(new Caller(this.#reception, socket));
  }

  #drop(caller: Caller): void {
    this.#callers.delete(caller);
    closeSocket(caller.socket);
  }

  [Symbol.dispose](): void {
    for (const caller of this.#callers) this.#drop(caller);
  }
}

/** One connection that has to prove itself: a hello, then a confirm. */
class Caller {
  readonly socket: Socket;
  readonly #reception: Reception;
  readonly #greeting = new Uint8Array(greetingBytes);
  #received = 0;
  #greeted: { readonly keys: LinkKeys; readonly challenges: readonly Uint8Array[] } | undefined;

  constructor(reception: Reception, socket: Socket) {
    this.#reception = reception;
    this.socket = socket;
  }

  /** Reads what there is. Throws where it is not what a rank that `keysOf` knows would say. */
  advance(keysOf: (rank: number) => LinkKeys | undefined): Link | undefined {
    const received = tryReceive(this.socket, this.#greeting.subarray(this.#received));
    this.#received += received;
    if (this.#received < greetingBytes) return undefined;
    this.#received = 0;
    if (this.#greeted !== undefined) return this.#confirmed(keysOf);
    this.#answer(keysOf(claimedRank(this.#greeting)));
    return undefined;
  }

  #answer(keys: LinkKeys | undefined): void {
    if (keys === undefined) throw new FrameError("nobody of that rank is expected");
    const { cipher } = this.#reception;
    const theirs = checkGreeting(frameType.hello, keys, cipher, this.#greeting, []);
    const own = newChallenge();
    this.#greeted = { keys, challenges: [theirs, own] };
    const answer = writeGreeting(frameType.accept, keys, cipher, own, [theirs]);
    if (trySend(this.socket, answer) < answer.length) throw new FrameError("it does not read");
  }

  #confirmed(keysOf: (rank: number) => LinkKeys | undefined): Link {
    const { cipher, maxPayload } = this.#reception;
    const { keys, challenges } = this.#greeted!;
    if (keysOf(keys.peer) === undefined) throw new FrameError("another connection was faster");
    checkGreeting(frameType.confirm, keys, cipher, this.#greeting, challenges);
    return new Link({ ...linkCiphers(keys, cipher, challenges), socket: this.socket, maxPayload });
  }
}
