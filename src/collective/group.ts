import { StelliumError } from "../errors.ts";
import { PollSet } from "../native/sockets.ts";
import { noRecorder, type Recorder } from "../trace/recorder.ts";
import { type Link, linkLost } from "./link.ts";
import type { Prepared } from "./prepared.ts";
import type { Wire } from "./wire.ts";

/** What a rank spent on collectives and links, since it was opened. */
export interface LinkStatistics {
  /** Collectives taken part in. */
  readonly count: number;
  /** Milliseconds in them, but for `waitMs`: sending, receiving, encrypting, decoding, adding. */
  readonly wireMs: number;
  /** Milliseconds without anything to send, until the first byte came from the rank that was due: for the slowest. */
  readonly waitMs: number;
  /** Milliseconds spent encrypting and decrypting. */
  readonly cipherMs: number;
  /** Bytes on the wire, with headers and tags. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** The sum of figures, or with `sign` -1 what has been added since `others` were taken. */
export function addFigures(figures: LinkStatistics, others: LinkStatistics, sign = 1): LinkStatistics {
  const names = Object.keys(figures) as (keyof LinkStatistics)[];
  const sums = names.map((name) => [name, figures[name] + sign * others[name]]);
  return Object.fromEntries(sums) as LinkStatistics;
}

/** What a group is made of. */
export interface GroupOptions {
  readonly rank: number;
  readonly size: number;
  /** Links to all other ranks, as `openLinks` returns them; the group closes them. */
  readonly links: ReadonlyMap<number, Link>;
  readonly wire: Wire;
  /** Milliseconds that one collective may take, waiting for the slowest rank included. */
  readonly deadlineMs: number;
  /** When all of them have to have ended, however many they are: a time of `performance.now()`. Never if absent. */
  readonly endsBy?: number | undefined;
  /** Values that are reduced at once, at most. */
  readonly maxElements: number;
}

/** Bytes of memory that a group holds for its buffers, those of its links included, for the memory plan. */
export function groupBytes(size: number, wire: Pick<Wire, "bytes">, maxElements: number, maxPayload: number): number {
  const frame = maxPayload + 32;
  return wire.bytes(maxElements) + 2 * frame * (size - 1);
}

/** The ranks that compute together, as seen by one of them: used by one thread, which it blocks. */
export class Group implements Disposable {
  readonly rank: number;
  readonly size: number;
  readonly wire: Wire;
  readonly deadlineMs: number;
  readonly endsBy: number;
  readonly maxElements: number;
  /** Bytes of all frames of a message but the last: as many as fit, in whole blocks and aligned for their decoding. */
  readonly frameBytes: number;
  /** Room for one encoded payload: own contributions go out from here, and results. */
  readonly encoded: Uint8Array;
  readonly pollSet: PollSet;
  /** Counters of transfers. */
  readonly times: { wireMs: number; waitMs: number; count: number };
  /** When the collective under way has to end: a time of `performance.now()`. */
  deadline = 0;
  readonly #links: ReadonlyMap<number, Link>;
  readonly #allLinks: readonly Link[];
  #recorder = noRecorder;
  #lost: StelliumError | undefined;

  /** @param counters - of another group of the same links, if both are to count as one */
  constructor(
    { rank, size, links, wire, deadlineMs, endsBy = Number.POSITIVE_INFINITY, maxElements }: GroupOptions,
    counters = { wireMs: 0, waitMs: 0, count: 0 },
  ) {
    this.times = counters;
    this.rank = rank;
    this.size = size;
    this.wire = wire;
    this.deadlineMs = deadlineMs;
    this.endsBy = endsBy;
    this.maxElements = maxElements;
    const maxPayload = Math.min(Number.MAX_SAFE_INTEGER, ...[...links.values()].map((link) => link.maxPayload));
    this.frameBytes = maxPayload - (maxPayload % (wire.blockBytes * 2));
    this.encoded = new Uint8Array(wire.bytes(maxElements));
    this.pollSet = new PollSet(2 * size);
    this.#links = links;
    this.#allLinks = [...links.values()];
  }

  /** Says what the thread that uses the group does. */
  get recorder(): Recorder {
    return this.#recorder;
  }

  /** From now on the group and its links record. */
  set recorder(recorder: Recorder) {
    this.#recorder = recorder;
    for (const link of this.#allLinks) link.recorder = recorder;
  }

  /** The link to another rank. */
  link(rank: number): Link {
    const link = this.#links.get(rank);
    if (link === undefined) throw linkLost(this.rank, rank, "there was never a link");
    return link;
  }

  /** The other ranks, the next one first, so that not all send to the same one at the same time. */
  others(): number[] {
    return Array.from({ length: this.size - 1 }, (_, i) => (this.rank + 1 + i) % this.size);
  }

  /**
   * Runs one collective under the group's deadline. Where it fails, the other ranks are told which one is lost, and
   * every later collective fails with the same error: partial sums cannot be taken up again.
   */
  run(collective: Prepared): void {
    if (this.#lost !== undefined) throw this.#lost;
    this.deadline = Math.min(performance.now() + this.deadlineMs, this.endsBy);
    this.times.count++;
    try {
      collective();
    } catch (error) {
      if (error instanceof StelliumError && error.code === "LINK_LOST") this.#giveUp(error);
      throw error;
    }
  }

  #giveUp(error: StelliumError): void {
    this.#lost = error;
    for (const link of this.#allLinks) link.giveUp(Number(error.values["peer"]));
  }

  /** The part of `encoded` for values: its start. */
  encodedFor(values: Float32Array): Uint8Array {
    if (values.length > this.maxElements) {
      throw new RangeError(`${values.length} values are more than the ${this.maxElements} that were planned`);
    }
    return this.encoded.subarray(0, this.wire.bytes(values.length));
  }

  /** Milliseconds that all links spent encrypting and decrypting. */
  get cipherMs(): number {
    let ms = 0;
    for (let i = 0; i < this.#allLinks.length; i++) ms += this.#allLinks[i]!.cipherMs;
    return ms;
  }

  statistics(): LinkStatistics {
    const sum = (of: (link: Link) => number) => this.#allLinks.reduce((total, link) => total + of(link), 0);
    return {
      ...this.times,
      cipherMs: this.cipherMs,
      bytesSent: sum((link) => link.bytesSent),
      bytesReceived: sum((link) => link.bytesReceived),
    };
  }

  [Symbol.dispose](): void {
    for (const link of this.#allLinks) link.close();
  }
}
