import type { SpanKind } from "./spans.ts";

/** Spans that a thread's memory holds; the oldest make way for new ones. */
export const keptSpans = 65_536;
/** Slots of a span: kind and subject, start, duration, amount. */
const slots = 4;
/** What separates kind and subject in one number. */
const subjects = 2 ** 24;

/** What one thread records, in shared memory. Pages that are not written to are never backed by the system. */
export interface TraceMemory {
  /** How many spans have been recorded so far, modulo 2^32. */
  readonly count: Int32Array;
  readonly spans: Float64Array;
}

/** Something that took time. Times are in nanoseconds, by the clock of `Recorder.now`. */
export interface Span {
  readonly kind: SpanKind;
  /** What it was about, by number: see `spanName`. */
  readonly subject: number;
  readonly start: number;
  readonly duration: number;
  /** Tokens or bytes; 0 where neither means anything. */
  readonly amount: number;
}

/** Records what one thread does. */
export interface Recorder {
  /** Nanoseconds by a clock that all threads of this machine share; 0 where nothing is recorded. */
  now(): number;
  /** Records a span that began at `start` and ends now. */
  end(kind: SpanKind, start: number, subject?: number, amount?: number): void;
}

/** Records nothing. */
export const noRecorder: Recorder = { now: () => 0, end() {} };

/** Allocates what one thread records into. */
export function traceMemory(): TraceMemory {
  return {
    count: new Int32Array(new SharedArrayBuffer(4)),
    spans: new Float64Array(new SharedArrayBuffer(8 * slots * keptSpans)),
  };
}

/** Records into `memory`, which no other thread may do; nothing where there is none. */
export function openRecorder(memory: TraceMemory | undefined): Recorder {
  if (memory === undefined) return noRecorder;
  const { count, spans } = memory;
  const now = () => Number(process.hrtime.bigint());
  return {
    now,
    end(kind, start, subject = 0, amount = 0) {
      const at = ((count[0]! >>> 0) % keptSpans) * slots;
      spans[at] = kind * subjects + subject;
      spans[at + 1] = start;
      spans[at + 2] = now() - start;
      spans[at + 3] = amount;
      Atomics.add(count, 0, 1);
    },
  };
}

/** Values that are made as they are read, as often as that is: not all of them are in memory at once. */
export interface Sequence<T> extends Iterable<T> {
  readonly length: number;
}

/**
 * The spans in memory, oldest first, and how many older ones were dropped. May be called while the thread records: what
 * is overwritten meanwhile is left out.
 */
export function readSpans({ count, spans }: TraceMemory): { spans: Sequence<Span>; dropped: number } {
  const end = Atomics.load(count, 0) >>> 0;
  const copy = spans.slice();
  // One that is being written counts as overwritten, too.
  const first = Math.max(0, end - keptSpans, (Atomics.load(count, 0) >>> 0) + 1 - keptSpans);
  return { spans: spansOf(copy, first, end), dropped: first };
}

function spansOf(spans: Float64Array, first: number, end: number): Sequence<Span> {
  return {
    length: Math.max(0, end - first),
    *[Symbol.iterator]() {
      for (let index = first; index < end; index++) yield spanAt(spans, index % keptSpans);
    },
  };
}

function spanAt(spans: Float64Array, index: number): Span {
  const [code = 0, start = 0, duration = 0, amount = 0] = spans.subarray(index * slots, (index + 1) * slots);
  return { kind: Math.floor(code / subjects) as SpanKind, subject: code % subjects, start, duration, amount };
}
