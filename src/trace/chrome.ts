import type { RankTrace } from "./events.ts";
import { tracedThreads } from "./spans.ts";

/**
 * A trace as Perfetto and Chrome read it: ranks are its processes, their threads its rows, and all times are in
 * microseconds from the first span on, by rank 0's clock. In pieces, one line each.
 */
export function* chromeTrace(ranks: readonly RankTrace[]): Generator<string, void> {
  const summaries = ranks.map(summaryOf);
  const origin = Math.min(...summaries.map(({ first }) => first));
  yield `{"displayTimeUnit":"ms","otherData":${JSON.stringify(remarks(ranks))},"traceEvents":[\n`;
  let separator = "";
  for (const [i, rank] of ranks.entries()) {
    for (const entries of [labels(rank, summaries[i]!), spansOf(rank, origin)]) {
      for (const entry of entries) {
        yield `${separator}${JSON.stringify(entry)}`;
        separator = ",\n";
      }
    }
  }
  yield "\n]}\n";
}

/** What has to be known of a rank's events before they are written. */
interface Summary {
  /** When the first one began, by rank 0's clock. */
  readonly first: number;
  readonly threads: ReadonlySet<string>;
}

function summaryOf({ events, aheadBy }: RankTrace): Summary {
  let first = Infinity;
  const threads = new Set<string>();
  for (const { start, thread } of events) {
    first = Math.min(first, start - aheadBy);
    threads.add(thread);
  }
  return { first, threads };
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
function labels({ rank, name }: RankTrace, { threads }: Summary): object[] {
  const label = (what: string, tid: number, args: object) => ({ name: what, ph: "M", pid: rank, tid, args });
  const used = tracedThreads.filter((thread) => threads.has(thread));
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
