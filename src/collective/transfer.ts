import { readiness } from "../native/sockets.ts";
import { spanKind } from "../trace/spans.ts";
import type { Group } from "./group.ts";
import { asLost, type FramePlace, type Link, type OutgoingFrame } from "./link.ts";
import type { Prepared } from "./prepared.ts";

/** Bytes to send over a link, cut into frames. They must not change while a transfer runs. */
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
  /**
   * Prepares taking a part of them. `offset` is where it belongs, in bytes; `part` is where it lies whenever what was
   * prepared runs, and only then.
   */
  taking(part: Uint8Array, offset: number): Prepared;
}

/** Prepares a transfer and runs it once. */
export function transfer(group: Group, outgoing: readonly Outgoing[], incoming: readonly Incoming[]): void {
  new Transfer(group, outgoing, incoming).run();
}

/**
 * Sends everything, at the same time, and receives everything, at the same time: no rank stops receiving because it
 * sends, so that ranks cannot block each other whatever the sizes. Both sides cut what they send each other into frames alike.
 * The first frames of all messages are taken in the order given, then the second ones, and so on: each place of a sum
 * gets its summands in that order, and no sender is held up until all of another's message has come.
 *
 * Made once, it can run any number of times on the same places in memory, and allocates nothing then but for frames that
 * go or come in pieces.
 */
export class Transfer {
  readonly #group: Group;
  readonly #senders: readonly Sender[];
  /** Frames in the order in which they are taken. */
  readonly #due: readonly DueFrame[];
  /** Senders that are not done, and how many frames have been taken. */
  #sending = 0;
  #taken = 0;
  /** By the recorder. */
  #started = 0;

  constructor(group: Group, outgoing: readonly Outgoing[], incoming: readonly Incoming[]) {
    this.#group = group;
    this.#senders = outgoing.filter(({ bytes }) => bytes.length > 0).map((message) => new Sender(message, group));
    this.#due = framesDue(incoming, group.frameBytes);
  }

  /** Blocks until all has been sent and taken. Throws `LINK_LOST`. */
  run(): void {
    const { times, recorder } = this.#group;
    const [started, waitedBefore] = [performance.now(), times.waitMs];
    this.#started = recorder.now();
    this.#begin();
    this.#move();
    times.wireMs += performance.now() - started - (times.waitMs - waitedBefore);
  }

  #begin(): void {
    this.#taken = 0;
    this.#sending = this.#senders.length;
    for (let i = 0; i < this.#senders.length; i++) this.#senders[i]!.begin();
  }

  #move(): void {
    for (;;) {
      const moved = this.#send();
      const received = this.#receive();
      if (this.#sending === 0 && this.#taken === this.#due.length) return;
      if (!moved && !received) this.#wait();
    }
  }

  /** Gets each sender on by a frame. Returns whether one could. */
  #send(): boolean {
    if (this.#sending === 0) return false;
    let moved = false;
    for (let i = 0; i < this.#senders.length; i++) {
      const sender = this.#senders[i]!;
      if (sender.done) continue;
      moved = sender.advance() || moved;
      if (sender.done) this.#sending--;
    }
    if (this.#sending === 0) this.#group.recorder.end(spanKind.send, this.#started);
    return moved;
  }

  /** Takes the frame that is due, and the next ones, while sending has nothing to do in between. */
  #receive(): boolean {
    let moved = false;
    while (this.#taken < this.#due.length) {
      const { link, place, take } = this.#due[this.#taken]!;
      if (link !== undefined && !link.receive(place!)) return moved;
      take();
      this.#taken++;
      moved = true;
      if (this.#sending > 0) return true;
    }
    return moved;
  }

  #wait(): void {
    const { times, recorder } = this.#group;
    const due = this.#due[this.#taken];
    const idle = this.#sending === 0 && due?.first === true && due.link?.receiving === false;
    const [started, waiting] = [performance.now(), recorder.now()];
    this.#poll(due?.link);
    if (!idle) return;
    times.waitMs += performance.now() - started;
    recorder.end(spanKind.peer, waiting, due.link.peer);
  }

  /** Waits until a sender can go on, or something comes over the link that is due. */
  #poll(due: Link | undefined): void {
    const { rank, pollSet, deadline } = this.#group;
    pollSet.clear();
    let link = due;
    for (let i = 0; i < this.#senders.length; i++) {
      const sender = this.#senders[i]!;
      if (sender.done) continue;
      pollSet.add(sender.link.socket, readiness.writable);
      link ??= sender.link;
    }
    if (due !== undefined) pollSet.add(due.socket, readiness.readable);
    try {
      pollSet.wait(deadline);
    } catch (error) {
      throw asLost(rank, link!.peer, error);
    }
  }
}

/** A frame that comes over a link, or that this rank has already, and what is done with it. */
interface DueFrame {
  readonly link: Link | undefined;
  /** Where it comes to lie, if it comes over a link. */
  readonly place: FramePlace | undefined;
  /** True if it is the first of its message. */
  readonly first: boolean;
  readonly take: Prepared;
}

function framesDue(incoming: readonly Incoming[], frameBytes: number): DueFrame[] {
  const longest = Math.max(0, ...incoming.map(lengthOf));
  const due: DueFrame[] = [];
  for (let offset = 0; offset < longest; offset += frameBytes) {
    for (const message of incoming) {
      const end = Math.min(offset + frameBytes, lengthOf(message));
      if (offset < end) due.push(dueFrame(message, offset, end));
    }
  }
  return due;
}

function dueFrame({ link, bytes, taking }: Incoming, offset: number, end: number): DueFrame {
  const place = link?.incoming(end - offset);
  const part = place === undefined ? (bytes as Uint8Array).subarray(offset, end) : place.payload;
  return { link, place, first: offset === 0, take: taking(part, offset) };
}

function lengthOf({ bytes }: Incoming): number {
  return typeof bytes === "number" ? bytes : bytes.length;
}

/** Sends one message, frame by frame. */
class Sender {
  readonly link: Link;
  readonly #frames: readonly OutgoingFrame[];
  #staged = 0;

  constructor({ link, bytes }: Outgoing, { frameBytes }: Group) {
    this.link = link;
    this.#frames = Array.from({ length: Math.ceil(bytes.length / frameBytes) }, (_, i) =>
      link.outgoing(bytes.subarray(i * frameBytes, (i + 1) * frameBytes)),
    );
  }

  get done(): boolean {
    return this.#staged === this.#frames.length && !this.link.sending;
  }

  /** Starts again with the first frame. */
  begin(): void {
    this.#staged = 0;
  }

  /** Sends what is staged, or stages the next frame first. Returns whether a whole frame went. */
  advance(): boolean {
    if (!this.link.sending && this.#staged < this.#frames.length) this.link.stage(this.#frames[this.#staged++]!);
    return this.link.flush();
  }
}
