import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import { embed } from "#stellium/serving/embedText";
import { shareBatch } from "#stellium/serving/shareBatch";
import type { Task } from "#stellium/serving/task";
import { deferred } from "../deferred.ts";
import { answerTo, FakeModel, vocabularySize } from "./fakeRanks.ts";

/** A prompt of its own, whose tokens none of the others has. */
function promptOf(seed: number, length: number): number[] {
  return Array.from({ length }, (_, i) => (seed * 13 + i * 7 + ((i * i * seed) % 11)) % 48);
}

/** Resolves when `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}

const idle = (model: FakeModel) => model.scheduler.slots.every(({ state }) => state === "idle");

describe("sharing a step out", () => {
  it("gives each a token, wastes nothing, and gives no one less than another who wants as much", () => {
    const sequences = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(sequences, fc.integer({ min: 8, max: 120 }), (wanted, room) => {
        const given = shareBatch(wanted, room);
        const sum = given.reduce((total, count) => total + count, 0);
        expect(sum).toBe(
          Math.min(
            room,
            wanted.reduce((total, count) => total + count, 0),
          ),
        );
        given.forEach((count, i) => {
          expect(count).toBeGreaterThanOrEqual(1);
          expect(count).toBeLessThanOrEqual(wanted[i]!);
          const most = Math.max(...given);
          if (count < wanted[i]!) expect(count).toBeGreaterThanOrEqual(most - 1);
        });
      }),
    );
  });
});

describe("a scheduler", () => {
  it("answers any requests as each alone would be, whatever is cached, stored, cancelled or asked for meanwhile", async () => {
    const request = fc.record({
      base: fc.integer({ min: 0, max: 2 }),
      shared: fc.integer({ min: 0, max: 60 }),
      own: fc.integer({ min: 1, max: 40 }),
      count: fc.integer({ min: 0, max: 12 }),
      delay: fc.integer({ min: 0, max: 12 }),
      cancelled: fc.integer({ min: 0, max: 60 }),
    });
    const options = fc.record({
      slots: fc.integer({ min: 1, max: 4 }),
      batch: fc.integer({ min: 4, max: 40 }),
      storedCells: fc.constantFrom(0, 60, 400),
    });
    await fc.assert(
      fc.asyncProperty(options, fc.array(request, { minLength: 1, maxLength: 14 }), async (size, requests) => {
        await using model = new FakeModel(size);
        const answers = requests.map(async ({ base, shared, own, count, delay, cancelled }, i) => {
          const prompt = [...promptOf(base, shared), ...promptOf(i + 5, own)];
          const stopper = new AbortController();
          for (let turn = 0; turn < delay; turn++) await setImmediate();
          const answer = model.write(prompt, count, stopper.signal);
          const written = answer.then(({ tokens }) => expect(tokens).toEqual(answerTo(prompt, count)));
          for (let turn = 0; turn < cancelled; turn++) await setImmediate();
          if (cancelled < 20) stopper.abort("enough");
          await written.catch((error: unknown) => {
            if (cancelled >= 20) throw error;
            expect(error).toMatchObject({ code: "ABORTED" });
          });
        });
        await Promise.all(answers);
        await until(() => idle(model));
        const { requests: outcomes } = model.scheduler.counters;
        expect(outcomes.completed + outcomes.cancelled).toBe(requests.length);
      }),
      { numRuns: 60 },
    );
  });

  it("lets those that came first go first, and refuses what is beyond its queue", async () => {
    await using model = new FakeModel({ slots: 2 }, 3);
    const ended: number[] = [];
    const write = (i: number) => model.write(promptOf(i, 9), 4).finally(() => ended.push(i));
    const written = [0, 1, 2, 3, 4].map(write);
    await setImmediate();
    expect(model.scheduler.queued).toBe(3);
    await expect(write(9)).rejects.toMatchObject({ code: "QUEUE_FULL", status: 429 });
    await Promise.all(written);
    expect(ended).toEqual([9, 0, 1, 2, 3, 4]);
    expect(model.scheduler.counters.requests).toEqual({ completed: 5, cancelled: 0, failed: 0, refused: 1 });
    await expect(model.write(promptOf(1, 9), 4)).resolves.toBeDefined();
  });

  describe("with a task that takes its time to choose a token", () => {
    /** Hands out what settles its choices, one after the other. */
    class SlowTask implements Task {
      readonly wants = "logits";
      readonly rowLength = vocabularySize;
      readonly bytes = 0;
      readonly promptTokens = 3;
      readonly tokens = [1, 2, 3];
      readonly choices: ReturnType<typeof deferred<boolean>>[] = [];
      failure: unknown;

      get generatedTokens(): number {
        return this.tokens.length - this.promptTokens;
      }

      admit(): void {}

      advance(): Promise<boolean> {
        const choice = deferred<boolean>();
        this.choices.push(choice);
        return choice.promise.then((goesOn) => {
          this.tokens.push(4);
          return goesOn;
        });
      }

      fail(error: unknown): void {
        this.failure = error;
      }
    }

    const begun = async (model: FakeModel) => {
      const slow = new SlowTask();
      model.scheduler.submit(slow);
      await until(() => slow.choices.length === 1);
      return slow;
    };

    it("goes on with the others meanwhile", async () => {
      await using model = new FakeModel({ slots: 2 });
      const slow = await begun(model);
      for (const i of [1, 2, 3]) expect((await model.write(promptOf(i, 9), 5)).tokens).toHaveLength(5);
      slow.choices[0]!.resolve(true);
      await until(() => slow.choices.length === 2);
      slow.choices[1]!.resolve(false);
      await until(() => idle(model));
      const { generatedTokens, requests } = model.scheduler.counters;
      expect([generatedTokens, requests.completed, slow.failure]).toEqual([17, 4, undefined]);
    });

    it("keeps the queue waiting where it has the only slot", async () => {
      await using model = new FakeModel({ slots: 1 });
      const slow = await begun(model);
      const other = model.write(promptOf(1, 9), 5);
      for (let turn = 0; turn < 50; turn++) await setImmediate();
      expect([model.scheduler.queued, model.ranks.steps.length]).toEqual([1, 1]);
      slow.choices[0]!.resolve(false);
      expect((await other).tokens).toHaveLength(5);
    });

    it("fails it alone where it cannot choose, and ends it where it is cancelled", async () => {
      await using model = new FakeModel({ slots: 2 });
      const [failing, cancelled] = [await begun(model), await begun(model)];
      failing.choices[0]!.reject(new Error("no token"));
      model.scheduler.cancel(cancelled, "enough");
      cancelled.choices[0]!.resolve(true);
      await until(() => idle(model));
      expect(failing.failure).toMatchObject({ message: "no token" });
      expect(cancelled.failure).toMatchObject({ code: "ABORTED" });
      expect(model.scheduler.counters.requests).toMatchObject({ completed: 0, failed: 1, cancelled: 1 });
      expect((await model.write(promptOf(1, 9), 5)).tokens).toHaveLength(5);
    });

    it("ends while it chooses", async () => {
      const model = new FakeModel({ slots: 1 });
      const slow = await begun(model);
      await model[Symbol.asyncDispose]();
      expect(slow.failure).toMatchObject({ code: "ABORTED" });
      slow.choices[0]!.reject(new Error("too late"));
      await setImmediate();
    });
  });

  it("refuses what would wait with more memory than there is for it", async () => {
    await using model = new FakeModel({ slots: 1 });
    const first = model.write(promptOf(1, 9), 30);
    const task = { ...model.requestModel, bytes: 40e6, fail: () => {} } as unknown as Task;
    model.scheduler.submit(task);
    expect(() => model.scheduler.submit({ ...task })).toThrow(expect.objectContaining({ code: "QUEUE_FULL" }));
    model.scheduler.cancel(task, "enough");
    await first;
  });

  it("holds a token of every sequence that is decoded in every step, whatever prompts come", async () => {
    await using model = new FakeModel({ slots: 3, batch: 16 });
    const first = model.write(promptOf(3, 4), 12);
    await until(() => model.scheduler.slots[0]!.state === "decode");
    const before = model.ranks.steps.length;
    await Promise.all([first, model.write(promptOf(7, 100), 2), model.write(promptOf(8, 60), 2)]);
    const during = model.ranks.steps.slice(before, before + 8);
    for (const step of during)
      expect(step.filter(({ slot }) => slot === 0)).toMatchObject([{ tokens: [expect.any(Number)] }]);
    const prompts = during
      .slice(2)
      .map((step) => step.filter(({ slot }) => slot !== 0).map(({ tokens }) => tokens.length));
    expect(prompts.filter((counts) => counts.length === 2).slice(0, 3)).toEqual([
      [8, 7],
      [8, 7],
      [8, 7],
    ]);
  });

  it("frees the slot of a request that is cancelled without disturbing the others", async () => {
    await using model = new FakeModel({ slots: 2 });
    const stopper = new AbortController();
    const cancelled = model.write(promptOf(1, 5), 150, stopper.signal);
    const other = model.write(promptOf(2, 5), 40);
    await until(() => model.scheduler.slots[0]!.state === "decode");
    const third = model.write(promptOf(4, 6), 3);
    expect(model.scheduler.queued).toBe(1);
    stopper.abort("enough");
    await expect(cancelled).rejects.toMatchObject({ code: "ABORTED", message: expect.stringContaining("enough") });
    expect((await third).tokens).toEqual(answerTo(promptOf(4, 6), 3));
    expect((await other).tokens).toEqual(answerTo(promptOf(2, 5), 40));
  });

  it("stops a step that nobody wants any more, and only that", async () => {
    await using model = new FakeModel({ slots: 2 });
    const signals: AbortSignal[] = [];
    model.ranks.before = (signal) => {
      signals.push(signal!);
      return new Promise((resolve) => signal!.addEventListener("abort", resolve, { once: true }));
    };
    const [a, b] = [new AbortController(), new AbortController()];
    const both = [model.write(promptOf(1, 5), 9, a.signal), model.write(promptOf(2, 5), 9, b.signal)];
    await until(() => signals.length === 1);
    a.abort();
    await expect(both[0]).rejects.toMatchObject({ code: "ABORTED" });
    expect(signals[0]!.aborted).toBe(false);
    b.abort();
    await expect(both[1]).rejects.toMatchObject({ code: "ABORTED" });
    expect(signals[0]!.aborted).toBe(true);
    model.ranks.before = () => setImmediate();
    expect((await model.write(promptOf(1, 5), 4)).tokens).toEqual(answerTo(promptOf(1, 5), 4));
  });

  it("ends what its reader leaves, and keeps what a slow one has not read yet without waiting for it", async () => {
    await using model = new FakeModel({ slots: 1 });
    for await (const _ of model.open(promptOf(2, 5), 150)) break;
    await until(() => idle(model));
    expect(model.scheduler.counters.requests.cancelled).toBe(1);
    const slow = model.open(promptOf(4, 6), 8);
    const expected = answerTo(promptOf(4, 6), 8);
    expect((await slow.next()).value).toMatchObject({ token: expected[0] });
    expect((await model.write(promptOf(5, 6), 3)).tokens).toEqual(answerTo(promptOf(5, 6), 3));
    const rest: number[] = [];
    for await (const { token } of slow) rest.push(token);
    expect(rest).toEqual(expected.slice(1));
  });

  it("takes nothing for cached that was lost while there was nothing to do", async () => {
    await using model = new FakeModel({ slots: 2, storedCells: 100 });
    for (const seed of [6, 7, 8]) await model.write(promptOf(seed, 40), 3);
    expect((await model.write(promptOf(8, 45), 4)).timings.cache_n).toBe(40);
    model.ranks.lose();
    const { tokens, timings } = await model.write(promptOf(8, 45), 4);
    expect([tokens, timings.cache_n]).toEqual([answerTo(promptOf(8, 45), 4), 0]);
    expect(model.ranks.moves).toContainEqual({ move: "clear" });
    expect((await model.write(promptOf(8, 45), 4)).timings.cache_n).toBe(44);
    expect(model.scheduler.counters.requests).toMatchObject({ completed: 6, failed: 0 });
  });

  it("fails all that a step was taken for, and lives on without what was cached", async () => {
    await using model = new FakeModel({ slots: 2, storedCells: 100 });
    await model.write(promptOf(6, 40), 3);
    await model.write(promptOf(7, 40), 3);
    await model.write(promptOf(8, 40), 3);
    model.ranks.before = async () => {
      model.ranks.lose();
      model.ranks.before = () => setImmediate();
      throw new StelliumError("WORKER_LOST", { device: "kitchen", reason: "no power" });
    };
    const written = [6, 7, 8].map((seed) => model.write(promptOf(seed, 45), 4));
    const outcomes = await Promise.allSettled(written);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
    await expect(written[0]).rejects.toMatchObject({ code: "WORKER_LOST" });
    expect((await written[2])!.tokens).toEqual(answerTo(promptOf(8, 45), 4));
    expect(model.ranks.moves).toContainEqual({ move: "clear" });
    expect((await model.write(promptOf(6, 45), 4)).timings.cache_n).toBe(0);
    expect(model.scheduler.counters.requests).toMatchObject({ completed: 5, failed: 2 });
  });

  it("lets a request whose logits are no numbers fail alone", async () => {
    await using model = new FakeModel({ slots: 2 });
    const step = model.ranks.step.bind(model.ranks);
    model.ranks.step = async (request, signal) => {
      const rows = await step(request, signal);
      const parts = [request].flat();
      const broken = parts.findIndex(({ tokens }) => tokens[0] === 33);
      return broken < 0 ? rows : rows.fill(Number.NaN, 50 * broken, 50 * (broken + 1));
    };
    const [failed, sound] = await Promise.allSettled([model.write([33], 4), model.write([1], 6)]);
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "ENGINE_FAILED" } });
    expect(sound).toMatchObject({ status: "fulfilled", value: { tokens: answerTo([1], 6) } });
  });

  it("ends everything when it is closed, and takes nothing after that", async () => {
    const model = new FakeModel({ slots: 1 });
    model.ranks.before = (signal) =>
      new Promise((resolve) => signal!.addEventListener("abort", resolve, { once: true }));
    const written = [1, 2, 3].map((seed) => model.write(promptOf(seed, 5), 9));
    const outcomes = Promise.allSettled(written);
    await until(() => model.ranks.steps.length === 1);
    await model[Symbol.asyncDispose]();
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: "ABORTED" } });
    await expect(model.write([1], 1)).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("refuses prompts that are none before they reach the others' step", async () => {
    await using model = new FakeModel();
    await expect(model.write([], 1)).rejects.toMatchObject({ code: "BAD_USAGE" });
    await expect(model.write([50], 1)).rejects.toMatchObject({ code: "BAD_USAGE" });
    await expect(model.write([1.5], 1)).rejects.toMatchObject({ code: "BAD_USAGE" });
    await expect(model.write([1, 2], 199)).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await expect(embed(model.requestModel, Array(201).fill(1))).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await expect(model.write([1], 1, AbortSignal.abort("early"))).rejects.toMatchObject({ code: "ABORTED" });
    expect(model.ranks.steps).toEqual([]);
  });

  it("pools hidden states that came in pieces, among other sequences", async () => {
    await using model = new FakeModel({ slots: 3, batch: 8 });
    const text = promptOf(9, 30);
    const [embedding, written] = await Promise.all([embed(model.requestModel, text), model.write(promptOf(3, 6), 5)]);
    const sum = text.reduce((total, token) => total + token, 0);
    const length = Math.hypot(sum, 30);
    expect([...embedding]).toEqual([Math.fround(sum / length), Math.fround(30 / length)]);
    expect(written.tokens).toEqual(answerTo(promptOf(3, 6), 5));
  });
});

describe("prefixes", () => {
  it("are reused from the slot that has the most of them", async () => {
    await using model = new FakeModel({ slots: 3 });
    const [a, b] = [promptOf(3, 50), promptOf(4, 50)];
    await model.write(a, 1);
    await model.write(b, 1);
    expect((await model.write([...a, 5, 6], 1)).timings).toMatchObject({ cache_n: 50, prompt_n: 2 });
    expect((await model.write([...b, 5, 6], 1)).timings).toMatchObject({ cache_n: 50, prompt_n: 2 });
    expect((await model.write(b, 1)).timings).toMatchObject({ cache_n: 49, prompt_n: 1 });
    expect(model.ranks.moves).toEqual([]);
    expect(model.scheduler.counters).toMatchObject({ cachedTokens: 149, promptTokens: 105 });
  });

  it("are copied from a slot that is busy, or that another conversation goes on in", async () => {
    await using model = new FakeModel({ slots: 3 });
    const system = promptOf(3, 40);
    await model.write([...system, ...promptOf(5, 50)], 1);
    expect((await model.write([...system, 1, 2], 1)).timings.cache_n).toBe(40);
    expect(model.ranks.moves).toEqual([{ move: "copy", from: 0, to: 1, cells: 40 }]);
    expect((await model.write([...system, ...promptOf(5, 50), 4], 1)).timings.cache_n).toBe(90);
  });

  it("that lost their slot come back from where they were stored", async () => {
    await using model = new FakeModel({ slots: 1, storedCells: 130 });
    const conversations = [3, 4, 5].map((seed) => promptOf(seed, 60));
    for (const prompt of conversations) await model.write(prompt, 1);
    expect((await model.write([...conversations[1]!, 7], 1)).timings.cache_n).toBe(60);
    expect((await model.write([...conversations[0]!, 7], 1)).timings.cache_n).toBe(0);
    const moves = model.ranks.moves.map(({ move }) => move);
    expect(moves).toEqual(["save", "save", "drop", "save", "restore", "drop", "save"]);
  });
});
