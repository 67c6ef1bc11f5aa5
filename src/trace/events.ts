import { deflateSync, inflateSync } from "node:zlib";
import { readSpans, type Sequence, type Span, type TraceMemory } from "./recorder.ts";
import { amountName, spanName } from "./spans.ts";

/** A span as it crosses the network: named, and in microseconds of the clock of its device. */
export interface TraceEvent {
  readonly name: string;
  readonly thread: string;
  readonly start: number;
  readonly duration: number;
  readonly figures?: Readonly<Record<string, number>> | undefined;
}

/** What the threads of a rank have recorded. */
export interface TraceEvents {
  readonly events: Sequence<TraceEvent>;
  /** How many older ones there was no room for. */
  readonly dropped: number;
}

/** What a rank did, and how its clock compares with that of the device that asks. */
export interface RankTrace extends TraceEvents {
  readonly rank: number;
  /** For people. */
  readonly name: string;
  /** Microseconds that its clock is ahead. */
  readonly aheadBy: number;
  /** Why there is nothing, where it did not answer. */
  readonly missing?: string | undefined;
}

/** Microseconds by the clock that spans are recorded with. */
export function traceClock(): number {
  return Number(process.hrtime.bigint()) / 1000;
}

/**
 * What the threads of this process have recorded so far, by name.
 *
 * @param blocks - names of the model's blocks
 */
export function readEvents(threads: Readonly<Record<string, TraceMemory>>, blocks: readonly string[]): TraceEvents {
  const read = Object.entries(threads).map(([thread, memory]) => ({ thread, ...readSpans(memory) }));
  const events: Sequence<TraceEvent> = {
    length: read.reduce((sum, { spans }) => sum + spans.length, 0),
    *[Symbol.iterator]() {
      for (const { thread, spans } of read) for (const span of spans) yield eventOf(thread, span, blocks);
    },
  };
  return { events, dropped: read.reduce((sum, { dropped }) => sum + dropped, 0) };
}

function eventOf(
  thread: string,
  { kind, subject, start, duration, amount }: Span,
  blocks: readonly string[],
): TraceEvent {
  const event = { name: spanName(kind, subject, blocks), thread, start: start / 1000, duration: duration / 1000 };
  const figure = amountName[kind];
  return figure === undefined ? event : { ...event, figures: { [figure]: amount } };
}

/** Events that came in parts, kept in little memory. */
export class StoredEvents implements Sequence<TraceEvent> {
  readonly #parts: Uint8Array[] = [];
  #length = 0;
  #bytes = 0;

  get length(): number {
    return this.#length;
  }

  /** As they are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  add(events: readonly TraceEvent[]): void {
    const part = deflateSync(JSON.stringify(events), { level: 1 });
    this.#parts.push(part);
    this.#bytes += part.length;
    this.#length += events.length;
  }

  *[Symbol.iterator](): Iterator<TraceEvent> {
    for (const part of this.#parts) yield* JSON.parse(inflateSync(part).toString()) as TraceEvent[];
  }
}
