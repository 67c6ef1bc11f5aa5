import { readiness } from "../native/sockets.ts";
import { spanKind } from "../trace/spans.ts";
import type { Group } from "./group.ts";
import { type Link, orLost } from "./link.ts";

/** Bytes to send over a link, cut into frames. They must not change until the transfer ends. */
export interface Outgoing {
  readonly link: Link;
  readonly bytes: Uint8Array;
}

/** Bytes to receive, or this rank's own in their place. */
export interface Incoming {
  /** Where they come from; undefined: `bytes` are taken as if they had come. */
  readonly link: Link | undefined;
  /** How many, or the bytes themselves. */
  readonly bytes: number | Uint8Array;
  /** Takes a part of them. `offset` is where it belongs, in bytes; `part` is valid only during the call. */
  take(part: Uint8Array, offset: number): void;
}

/**
 * Sends everything, at the same time, and receives everything, at the same time: nobody stops receiving because it
 * sends, so that ranks cannot block each other whatever the sizes. Both sides cut what they exchange into frames alike.
 * The first frames of all messages are taken in the order given, then the second ones, and so on: each place of a sum
 * gets its summands in that order, and no sender is held up until all of another's message has come. Throws `LINK_LOST`.
 */
export function transfer(group: Group, outgoing: readonly Outgoing[], incoming: readonly Incoming[]): void {
  const started = performance.now();
  const waitedBefore = group.times.waitMs;
  new Transfer(group, outgoing, incoming).run();
  group.times.wireMs += performance.now() - started - (group.times.waitMs - waitedBefore);
}

class Transfer {
  readonly #group: Group;
  readonly #outgoing: Sender[];
  readonly #incoming: readonly Incoming[];
  readonly #longest: number;
  /** The message whose frame is due, and where the frame begins in it. */
  #message = 0;
  #offset = 0;
  readonly #started: number;

  constructor(group: Group, outgoing: readonly Outgoing[], incoming: readonly Incoming[]) {
    this.#group = group;
    this.#started = group.recorder.now();
    this.#outgoing = outgoing.map(({ link, bytes }) => new Sender(link, bytes, group.frameBytes));
    this.#incoming = incoming;
    this.#longest = Math.max(0, ...incoming.map(lengthOf));
  }

  run(): void {
    for (;;) {
      const moved = this.#send();
      const received = this.#receive();
      if (this.#outgoing.length === 0 && this.#receivedAll) return;
      if (!moved && !received) this.#wait();
    }
  }

  get #receivedAll(): boolean {
    return this.#offset >= this.#longest;
  }

  /** Gets each sender on by a frame. Returns whether one could. */
  #send(): boolean {
    if (this.#outgoing.length === 0) return false;
    let moved = false;
    for (let i = 0; i < this.#outgoing.length; i++) {
      const sender = this.#outgoing[i]!;
      moved = sender.advance() || moved;
      if (sender.done) this.#outgoing.splice(i--, 1);
    }
    if (this.#outgoing.length === 0) this.#group.recorder.end(spanKind.send, this.#started);
    return moved;
  }

  /** Takes the frame that is due, and the next ones, while sending has nothing to do in between. */
  #receive(): boolean {
    let moved = false;
    while (!this.#receivedAll) {
      if (!this.#takeFrame(this.#incoming[this.#message]!)) return moved;
      this.#turn();
      moved = true;
      if (this.#outgoing.length > 0) return true;
    }
    return moved;
  }

  /** Takes a message's frame at the offset, if it has one. False: it has not come yet. */
  #takeFrame(incoming: Incoming): boolean {
    const { link, bytes, take } = incoming;
    const end = Math.min(this.#offset + this.#group.frameBytes, lengthOf(incoming));
    if (end <= this.#offset) return true;
    const own = () => (bytes as Uint8Array).subarray(this.#offset, end);
    const part = link === undefined ? own() : link.receive(end - this.#offset);
    if (part === undefined) return false;
    take(part, this.#offset);
    return true;
  }

  /** On to the next message's frame at the same offset, or to the next frame of the first one. */
  #turn(): void {
    this.#message++;
    if (this.#message < this.#incoming.length) return;
    this.#message = 0;
    this.#offset += this.#group.frameBytes;
  }

  #wait(): void {
    const { rank, pollSet, times, deadline, recorder } = this.#group;
    const link = this.#incoming[this.#message]?.link;
    pollSet.clear();
    for (const sender of this.#outgoing) pollSet.add(sender.link.socket, readiness.writable);
    if (link !== undefined) pollSet.add(link.socket, readiness.readable);
    const idle = this.#outgoing.length === 0 && this.#offset === 0 && link?.receiving === false;
    const [started, waiting] = [performance.now(), recorder.now()];
    orLost(rank, (link ?? this.#outgoing[0]!.link).peer, () => pollSet.wait(deadline));
    if (!idle) return;
    times.waitMs += performance.now() - started;
    recorder.end(spanKind.peer, waiting, link.peer);
  }
}

function lengthOf({ bytes }: Incoming): number {
  return typeof bytes === "number" ? bytes : bytes.length;
}

/** Sends one message, frame by frame. */
class Sender {
  readonly link: Link;
  readonly #bytes: Uint8Array;
  readonly #step: number;
  #staged = 0;

  constructor(link: Link, bytes: Uint8Array, step: number) {
    this.link = link;
    this.#bytes = bytes;
    this.#step = step;
  }

  get done(): boolean {
    return this.#staged === this.#bytes.length && !this.link.sending;
  }

  /** Sends what is staged, or stages the next frame first. Returns whether a whole frame went. */
  advance(): boolean {
    if (!this.link.sending && this.#staged < this.#bytes.length) {
      this.link.stage(this.#bytes.subarray(this.#staged, this.#staged + this.#step));
      this.#staged = Math.min(this.#staged + this.#step, this.#bytes.length);
    }
    return this.link.flush();
  }
}
