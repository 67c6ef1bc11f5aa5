import { getEventListeners } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ClusterOptions } from "#stellium/cluster/clusterOptions";
import type { GeneratedToken, GenerationRequest, GenerationResult } from "#stellium/serving/generation";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";
import { kinds } from "../kinds.ts";

const sampling = { ...defaultSampling, temperature: 0 };
const prompts = [
  "ROMEO:\n",
  "O, what a night is this! ",
  "K",
  "The king said to his men that they should go. ".repeat(8),
];

/** A whole answer. */
interface Answer {
  readonly written: GeneratedToken[];
  readonly result: GenerationResult;
}

async function answer(model: TextModel, request: Partial<GenerationRequest>, signal?: AbortSignal): Promise<Answer> {
  const prompt = await model.encodePrompt(prompts[0]!);
  const generation = model.generate({ prompt, maxTokens: 16, sampling, ignoreEos: true, ...request }, signal);
  const written: GeneratedToken[] = [];
  for (;;) {
    const { done, value } = await generation.next();
    if (done) return { written, result: value };
    written.push(value);
  }
}

/**
 * Whether two answers are the same, but for near-ties: kernels for several tokens at once round otherwise, so where the
 * answers part, the first has to have held the second's token for about as likely as its own.
 */
function expectSame({ written: alone }: Answer, { written: among }: Answer): void {
  expect(among).toHaveLength(alone.length);
  const parting = alone.findIndex(({ token }, i) => among[i]!.token !== token);
  if (parting < 0) return;
  const { logprob, top } = alone[parting]!.logprobs!;
  const other = top.find(({ token }) => token === among[parting]!.token)?.logprob ?? -Infinity;
  expect(logprob - other).toBeLessThan(0.35);
}

const idle = (model: TextModel) => model.slots().every(({ state }) => state === "idle");

const settings: readonly [string, Partial<ClusterOptions> | undefined][] = [
  ["one device", undefined],
  ["a cluster", { workers: 1, local: true, wire: "f32" }],
];
const all = settings.flatMap(([setting, cluster]) =>
  kinds.map(([kind, path]) => [kind, setting, path, cluster] as const),
);

describe.each(all)("many requests to %s on %s", (_, _setting, path, clusterOptions) => {
  let model: TextModel;
  beforeAll(async () => {
    const cluster = clusterOptions && ({ workers: 1, local: true, ...clusterOptions } as ClusterOptions);
    const options = { threads: 1, context: 512, parallel: 3, queue: 2, prefixBytes: 4e6, cluster };
    model = await TextModel.open(await path(), options);
  });
  afterAll(() => model[Symbol.asyncDispose]());

  it("are answered as each alone", async () => {
    const texts = await Promise.all(prompts.map((text) => model.encodePrompt(text)));
    const requests = texts.map((prompt) => ({ prompt, logprobs: 5 }));
    const alone: Answer[] = [];
    for (const request of requests) alone.push(await answer(model, request));
    const among = await Promise.all(requests.map((request) => answer(model, request)));
    for (const [i, one] of alone.entries()) expectSame(one, among[i]!);
    expect(model.queued).toBe(0);
    expect(idle(model)).toBe(true);
  });

  it("start from what was cached, and say so", async () => {
    const prompt = await model.encodePrompt(prompts[3]!);
    const first = await answer(model, { prompt });
    const again = await answer(model, { prompt });
    expect(again.result.timings).toMatchObject({ cache_n: prompt.length - 1, prompt_n: 1 });
    expectSame(await answer(model, { prompt, logprobs: 5 }), first);
  });

  it("leave their slots when they are cancelled, and the others go on", async () => {
    const stopper = new AbortController();
    const before = model.counters.requests.cancelled;
    const cancelled = answer(model, { maxTokens: 480 }, stopper.signal);
    const other = answer(model, { prompt: await model.encodePrompt(prompts[1]!), maxTokens: 60 });
    while (model.slots().filter(({ state }) => state === "decode").length < 2) await new Promise(setImmediate);
    stopper.abort("enough");
    await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
    expect((await other).written).toHaveLength(60);
    expect(model.counters.requests.cancelled).toBe(before + 1);
    expect(idle(model)).toBe(true);
  });

  it("are refused where too many wait", async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 7 }, () => answer(model, { maxTokens: 2 })));
    const refused = outcomes.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(2);
    for (const outcome of refused) expect(outcome).toMatchObject({ reason: { code: "QUEUE_FULL", status: 429 } });
  });

  it("may be for embeddings: the mean of final hidden states, of length 1", async () => {
    const texts = await Promise.all(prompts.map((text) => model.encodePrompt(text)));
    const writing = answer(model, { maxTokens: 8 });
    const embeddings: Float32Array[] = [];
    for (const tokens of texts) embeddings.push(await model.embed(tokens));
    await writing;
    for (const [i, tokens] of texts.entries()) {
      const part = { tokens, position: 0, outputs: tokens.length, hidden: true };
      // Behind the scheduler's back: what it takes slot 0 to hold is void from here on.
      const states = await model.coordinator.step(part);
      const length = states.length / tokens.length;
      const sums = Array.from({ length }, (_, at) =>
        states.reduce((s, value, j) => s + (j % length === at ? value : 0), 0),
      );
      const scale = Math.hypot(...sums);
      const cosine = embeddings[i]!.reduce((sum, value, at) => sum + (value * sums[at]!) / scale, 0);
      expect(cosine).toBeGreaterThan(0.999);
      expect(Math.hypot(...embeddings[i]!)).toBeCloseTo(1, 5);
    }
    const cosine = embeddings[0]!.reduce((sum, value, at) => sum + value * embeddings[3]![at]!, 0);
    expect(cosine).toBeLessThan(0.98);
  });

  it("leave nothing behind, some hundreds of them", async () => {
    const signal = new AbortController().signal;
    const churn = async (count: number) => {
      for (let i = 0; i < count; i += 4) {
        const some = [0, 1, 2, 3].map(async (j) => {
          const prompt = await model.encodePrompt(prompts[(i + j) % 3]! + (i % 7));
          return j === 3
            ? answer(model, { prompt, maxTokens: 40 }, AbortSignal.timeout(1)).catch(() => {})
            : answer(model, { prompt, maxTokens: 3 }, signal);
        });
        await Promise.all(some);
      }
    };
    await churn(100);
    const before = process.memoryUsage().rss;
    await churn(300);
    expect(process.memoryUsage().rss - before).toBeLessThan(40e6);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    expect(idle(model)).toBe(true);
    expect(model.queued).toBe(0);
  });
});
