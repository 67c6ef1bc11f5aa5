import type { RankTrace, TraceEvent } from "./events.ts";
import { tracedThreads } from "./spans.ts";

/**
 * A trace as Perfetto and Chrome read it: ranks are its processes, their threads its rows, and all times are in
 * microseconds from the first span on, by rank 0's clock. In pieces, one line each.
 */
export function* chromeTrace(ranks: readonly RankTrace[]): Generator<string, void> {
  const origin = ranks.reduce((least, { events, aheadBy }) => Math.min(least, firstOf(events) - aheadBy), Infinity);
  yield `{"displayTimeUnit":"ms","otherData":${JSON.stringify(remarks(ranks))},"traceEvents":[\n`;
  let separator = "";
  for (const rank of ranks) {
    for (const entry of [...labels(rank), ...spansOf(rank, origin)]) {
      yield `${separator}${JSON.stringify(entry)}`;
      separator = ",\n";
    }
  }
  yield "\n]}\n";
}

function firstOf(events: readonly TraceEvent[]): number {
  return events.reduce((least, { start }) => Math.min(least, start), Infinity);
}

/** What a reader should know: that older spans are gone, or a rank's. */
function remarks(ranks: readonly RankTrace[]): Record<string, string> {
  const entries = ranks.map(({ rank, events, dropped, missing }): [string, string] => {
    const older = dropped > 0 ? `; ${dropped} older ones were dropped for lack of room` : "";
    return [`rank ${rank}`, missing === undefined ? `${events.length} spans${older}` : `no spans: ${missing}`];
  });
  return Object.fromEntries(entries);
}

/** Names of a rank's rows, in their order. */
function labels({ rank, name, events }: RankTrace): object[] {
  const label = (what: string, tid: number, args: object) => ({ name: what, ph: "M", pid: rank, tid, args });
  const used = tracedThreads.filter((thread) => events.some((event) => event.thread === thread));
  return [
    label("process_name", 0, { name: `rank ${rank}: ${name}` }),
    label("process_sort_index", 0, { sort_index: rank }),
    ...used.map((thread) => label("thread_name", rowOf(thread), { name: thread })),
    ...used.map((thread) => label("thread_sort_index", rowOf(thread), { sort_index: rowOf(thread) })),
  ];
}

function* spansOf({ rank, events, aheadBy }: RankTrace, origin: number): Generator<object, void> {
  for (const { name, thread, start, duration, figures } of events) {
    const from = nanoseconds(start - aheadBy - origin);
    // Its end is rounded, rather than its duration, so that what nests still does.
    const to = nanoseconds(start + duration - aheadBy - origin);
    const span = { name, cat: name.replace(/ \d+$/, ""), ph: "X", pid: rank, tid: rowOf(thread) };
    yield { ...span, ts: from / 1000, dur: (to - from) / 1000, ...(figures && { args: figures }) };
  }
}

function nanoseconds(microseconds: number): number {
  return Math.round(microseconds * 1000);
}

/** 0 where a rank of another version names a thread that this one does not know. */
function rowOf(thread: string): number {
  return (tracedThreads as readonly string[]).indexOf(thread) + 1;
}
