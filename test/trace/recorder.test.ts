import { describe, expect, it } from "vitest";
import { chromeTrace } from "#stellium/trace/chrome";
import { readEvents, StoredEvents } from "#stellium/trace/events";
import { keptSpans, noRecorder, openRecorder, readSpans, traceMemory } from "#stellium/trace/recorder";
import { otherSubject, type SpanKind, severalBlocks, spanKind, spanName } from "#stellium/trace/spans";

describe("what a thread records", () => {
  it("is read as it was: kind, subject, times and amount", () => {
    const memory = traceMemory();
    const recorder = openRecorder(memory);
    const subject = 159;
    const blocks = Array.from({ length: 161 }, (_, i) => `${i % 2 ? "ffn" : "attention"} ${Math.floor(i / 2)}`);
    const started = recorder.now();
    recorder.end(spanKind.reduce, started, subject, 4096);
    const { spans, dropped } = readSpans(memory);
    expect([spans.length, dropped]).toEqual([1, 0]);
    const [span] = spans;
    expect(span).toEqual({
      kind: spanKind.reduce,
      subject,
      start: started,
      duration: expect.any(Number),
      amount: 4096,
    });
    expect(span!.duration).toBeGreaterThanOrEqual(0);
    expect([...readEvents({ engine: memory }, blocks).events]).toMatchObject([
      { name: "sum ffn 79", figures: { bytes: 4096 } },
    ]);
  });

  it("takes the room there is: the oldest make way, and are counted", () => {
    const memory = traceMemory();
    const recorder = openRecorder(memory);
    for (let i = 0; i < keptSpans + 100; i++) recorder.end(spanKind.peer, 0, i % 64, i);
    const { spans, dropped } = readSpans(memory);
    expect(spans.length + dropped).toBe(keptSpans + 100);
    expect(spans.length).toBeGreaterThan(keptSpans - 10);
    expect(Array.from(spans, ({ amount }) => amount)).toEqual(Array.from(spans, (_, i) => dropped + i));
  });

  it("is nothing where there is no memory for it", () => {
    expect(openRecorder(undefined)).toBe(noRecorder);
    expect(noRecorder.now()).toBe(0);
    const { events, dropped } = readEvents({}, []);
    expect([[...events], events.length, dropped]).toEqual([[], 0, 0]);
  });

  it("is named after its block", () => {
    const blocks = ["attention 0", "ffn 0", "head"];
    const name = (subject: number, kind: SpanKind = spanKind.compute) => spanName(kind, subject, blocks);
    expect([0, 1, 2, severalBlocks, otherSubject].map((subject) => name(subject))).toEqual([
      ...blocks,
      "blocks",
      "other weights",
    ]);
    expect(name(1, spanKind.sums)).toBe("wait for sum ffn 0");
    expect(name(7, spanKind.peer)).toBe("wait for rank 7");
  });
});

describe("events of another device", () => {
  it("are kept in parts, in their order, and can be read twice", () => {
    const events = Array.from({ length: 5000 }, (_, i) => ({
      name: `ffn ${i}`,
      thread: "engine",
      start: i,
      duration: 1,
    }));
    const stored = new StoredEvents();
    for (let first = 0; first < events.length; first += 2048) stored.add(events.slice(first, first + 2048));
    expect(stored.length).toBe(events.length);
    for (let reading = 0; reading < 2; reading++) expect([...stored]).toEqual(events);
  });
});

describe("a trace file", () => {
  const event = { name: "ffn 0", thread: "engine", start: 1000.5, duration: 2, figures: { tokens: 1 } };
  const rank = { rank: 0, name: "desk", aheadBy: 0, events: [event], dropped: 0 };
  const written = (ranks: Parameters<typeof chromeTrace>[0]) => JSON.parse([...chromeTrace(ranks)].join(""));

  it("has all times by one clock, from the first span on", () => {
    const late = { ...rank, rank: 1, aheadBy: 500, events: [{ ...event, start: 1510.5 }] };
    const { traceEvents } = written([rank, late]);
    const spans = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
    expect(spans).toEqual([
      { name: "ffn 0", cat: "ffn", ph: "X", pid: 0, tid: 1, ts: 0, dur: 2, args: { tokens: 1 } },
      { name: "ffn 0", cat: "ffn", ph: "X", pid: 1, tid: 1, ts: 10, dur: 2, args: { tokens: 1 } },
    ]);
  });

  it("says which spans are not in it", () => {
    const { otherData } = written([
      { ...rank, dropped: 7 },
      { ...rank, rank: 1, events: [], missing: "it was lost" },
    ]);
    expect(otherData).toEqual({
      "rank 0": "1 spans; 7 older ones were dropped for lack of room",
      "rank 1": "no spans: it was lost",
    });
  });

  it("may be empty", () => {
    expect(written([]).traceEvents).toEqual([]);
    expect(written([{ ...rank, events: [] }]).traceEvents).toHaveLength(2);
  });
});
