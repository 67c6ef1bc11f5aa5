import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSampler, defaultSampling, type SamplingParameters, validateSampling } from "#stellium/serving/sampler";

const plain: SamplingParameters = {
  ...defaultSampling,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 1,
};

/** The chain, written down as its definition reads: sort everything, cut, normalize. Returns probability by token. */
function referenceDistribution(logits: Float32Array, parameters: SamplingParameters, history: number[] = []) {
  const adjusted = referenceAdjust(logits, parameters, history);
  let kept = Array.from(adjusted, (logit, id) => ({ id, logit })).filter(({ logit }) => Number.isFinite(logit));
  kept.sort((a, b) => b.logit - a.logit || a.id - b.id);
  if (parameters.topK > 0) kept = kept.slice(0, parameters.topK);
  const ofKept = softmax(kept.map(({ logit }) => logit));
  const reached = runningSums(ofKept).findIndex((sum) => sum >= parameters.topP);
  if (parameters.topP < 1 && reached >= 0) kept = kept.slice(0, reached + 1);
  const line = kept[0]!.logit + Math.log(parameters.minP);
  kept = kept.filter(({ logit }, rank) => rank === 0 || logit >= line);
  const probabilities = softmax(kept.map(({ logit }) => logit / parameters.temperature));
  return new Map(kept.map(({ id }, rank) => [id, probabilities[rank]!]));
}

function referenceAdjust(logits: Float32Array, parameters: SamplingParameters, history: number[]): Float32Array {
  const adjusted = logits.slice();
  for (const [id, bias] of parameters.logitBias) if (id < adjusted.length) adjusted[id]! += bias;
  const window =
    parameters.penaltyLastN < 0 ? history : history.slice(Math.max(0, history.length - parameters.penaltyLastN));
  for (const id of new Set(parameters.penaltyLastN === 0 ? [] : window)) {
    const logit = adjusted[id]!;
    const count = window.filter((other) => other === id).length;
    const repeated = logit > 0 ? logit / parameters.repeatPenalty : logit * parameters.repeatPenalty;
    adjusted[id] = repeated - count * parameters.frequencyPenalty - parameters.presencePenalty;
  }
  return adjusted;
}

function softmax(values: number[]): number[] {
  const max = Math.max(...values);
  const weights = values.map((value) => Math.exp(value - max));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function runningSums(values: number[]): number[] {
  let sum = 0;
  return values.map((value) => {
    sum += value;
    return sum;
  });
}

/** How often each token is drawn. */
function frequencies(logits: Float32Array, parameters: SamplingParameters, history: number[], draws: number) {
  const sampler = createSampler(parameters);
  for (const token of history) sampler.accept(token);
  const counts = new Map<number, number>();
  for (let i = 0; i < draws; i++) {
    const token = sampler.sample(logits);
    counts.set(token, (counts.get(token) ?? 0) + 1 / draws);
  }
  return counts;
}

/** The same tokens, and frequencies within 6 standard deviations. */
function expectDraws(logits: Float32Array, parameters: SamplingParameters, history: number[] = []) {
  const draws = 2000;
  const expected = referenceDistribution(logits, parameters, history);
  const found = frequencies(logits, parameters, history, draws);
  for (const token of found.keys()) expect(expected.has(token), `token ${token} may be drawn`).toBe(true);
  for (const [token, p] of expected) {
    const tolerance = 6 * Math.sqrt((p * (1 - p)) / draws) + 2 / draws;
    expect(Math.abs((found.get(token) ?? 0) - p), `token ${token} of probability ${p}`).toBeLessThan(tolerance);
  }
}

/** Whole and half numbers, so that ties are common. */
const logitsArbitrary = fc
  .array(fc.integer({ min: -12, max: 12 }), { minLength: 1, maxLength: 60 })
  .map((values) => Float32Array.from(values, (value) => value / 2));

/** Whether no sum of probabilities is so near to top-p that rounding decides. */
function isDecided(logits: Float32Array, parameters: SamplingParameters): boolean {
  const sorted = Array.from(logits).sort((a, b) => b - a);
  const kept = parameters.topK > 0 ? sorted.slice(0, parameters.topK) : sorted;
  return runningSums(softmax(kept)).every((sum) => Math.abs(sum - parameters.topP) > 1e-7);
}

describe("the chain draws from the distribution of its definition", () => {
  const cuts = fc.record({
    temperature: fc.constantFrom(0.3, 0.8, 1, 1.7),
    topK: fc.constantFrom(-1, 0, 1, 2, 5, 40, 1000),
    topP: fc.constantFrom(0, 0.13, 0.5, 0.87, 0.95, 1),
    minP: fc.constantFrom(0, 0.01, 0.051, 0.3, 1),
    seed: fc.integer(),
  });

  it("for any top-k, top-p, min-p and temperature", () => {
    fc.assert(
      fc.property(logitsArbitrary, cuts, (logits, cut) => {
        const parameters = { ...plain, ...cut };
        fc.pre(isDecided(logits, parameters));
        expectDraws(logits, parameters);
      }),
      { numRuns: 150 },
    );
  });

  it("for any logit bias, penalties and history", () => {
    const adjustments = fc.record({
      repeatPenalty: fc.constantFrom(0.7, 1, 1.3, 2),
      presencePenalty: fc.constantFrom(-1, 0, 0.6),
      frequencyPenalty: fc.constantFrom(-0.3, 0, 0.4),
      penaltyLastN: fc.constantFrom(-1, 0, 1, 3, 64),
      bias: fc.array(fc.tuple(fc.nat(70), fc.constantFrom(-Infinity, -2, 1.5))),
      topK: fc.constantFrom(0, 7),
    });
    const logits20 = fc
      .array(fc.integer({ min: -6, max: 6 }), { minLength: 20, maxLength: 20 })
      .map((values) => Float32Array.from(values, (value) => value / 2));
    fc.assert(
      fc.property(
        logits20,
        adjustments,
        fc.array(fc.nat(19), { maxLength: 12 }),
        (logits, { bias, ...given }, seen) => {
          const parameters = { ...plain, ...given, logitBias: new Map(bias) };
          fc.pre(referenceAdjust(logits, parameters, seen).some((logit) => Number.isFinite(logit)));
          const before = logits.slice();
          expectDraws(logits, parameters, seen);
          expect(logits).toEqual(before);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("on a large vocabulary without top-k, where top-p looks for its line in buckets", () => {
    const logits = Float32Array.from({ length: 50_000 }, (_, i) => 9 * Math.sin(i * 12.9898) - (i % 7));
    const parameters = { ...plain, topP: 0.3 };
    const expected = referenceDistribution(logits, parameters);
    const sampler = createSampler(parameters);
    for (let i = 0; i < 200; i++) expect(expected.has(sampler.sample(logits))).toBe(true);
  });
});

describe("greedy", () => {
  const greedy = createSampler({ ...defaultSampling, temperature: 0 });

  it("takes the first of equal maxima, and never NaN or an infinity", () => {
    expect(greedy.sample(Float32Array.of(1, 3, 3, 2))).toBe(1);
    expect(greedy.sample(Float32Array.of(Number.NaN, -5, Number.NaN, Infinity, -4))).toBe(4);
    expect(greedy.sample(Float32Array.of(-Infinity, -1e30))).toBe(1);
  });

  it("obeys bias and penalties", () => {
    const biased = createSampler({ ...defaultSampling, temperature: 0, logitBias: new Map([[1, -Infinity]]) });
    expect(biased.sample(Float32Array.of(1, 3, 2))).toBe(2);
    const penalized = createSampler({ ...defaultSampling, temperature: 0, repeatPenalty: 2 });
    penalized.accept(1);
    expect(penalized.sample(Float32Array.of(1, 3, 2))).toBe(2);
  });

  it.each([0, 0.8])("fails with ENGINE_FAILED at temperature %s if no logit is finite", (temperature) => {
    const sampler = createSampler({ ...defaultSampling, temperature });
    const logits = Float32Array.of(Number.NaN, -Infinity, Infinity);
    expect(() => sampler.sample(logits)).toThrow(expect.objectContaining({ code: "ENGINE_FAILED" }));
  });
});

it("never draws NaN or an infinity", () => {
  const logits = Float32Array.of(Number.NaN, 0, Infinity, 0, -Infinity);
  for (const topK of [0, 2, 4]) {
    const sampler = createSampler({ ...plain, topK, temperature: 2 });
    for (let i = 0; i < 100; i++) expect([1, 3]).toContain(sampler.sample(logits));
  }
});

describe("seed", () => {
  const logits = Float32Array.from({ length: 500 }, (_, i) => Math.sin(i));
  const draw = (seed: number | undefined) => {
    const sampler = createSampler({ ...plain, seed });
    return { seed: sampler.seed, tokens: Array.from({ length: 30 }, () => sampler.sample(logits)) };
  };

  it("gives the same tokens again, for any safe integer", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (seed) => {
        expect(draw(seed)).toEqual(draw(seed));
      }),
    );
    expect(draw(1).tokens).not.toEqual(draw(2).tokens);
    expect(draw(1).tokens).not.toEqual(draw(1 + 2 ** 32).tokens);
  });

  it("is random and reported if none is given", () => {
    const { seed, tokens } = draw(undefined);
    expect(draw(seed).tokens).toEqual(tokens);
    expect(draw(undefined).seed).not.toBe(seed);
  });
});

it("logprobs are the log-softmax of the given logits", () => {
  fc.assert(
    fc.property(logitsArbitrary, fc.nat(), fc.integer({ min: 0, max: 20 }), (logits, pick, top) => {
      const token = pick % logits.length;
      const expected = softmax(Array.from(logits)).map(Math.log);
      const order = [...expected.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, top);
      const found = createSampler(plain).logprobs(logits, token, top);
      expect(found.token).toBe(token);
      expect(found.logprob).toBeCloseTo(expected[token]!, 10);
      expect(found.top.map((entry) => entry.token)).toEqual(order);
      for (const entry of found.top) expect(entry.logprob).toBeCloseTo(expected[entry.token]!, 10);
    }),
  );
});

describe("validateSampling", () => {
  it("accepts the defaults and the ends of the ranges", () => {
    validateSampling(defaultSampling);
    validateSampling({ ...defaultSampling, temperature: 0, topK: -1, topP: 0, minP: 1, penaltyLastN: -1, seed: -5 });
  });

  it.each([
    ["temperature", -0.1, "from 0 to 100"],
    ["temperature", Number.NaN, "from 0 to 100"],
    ["topK", 1.5, "an integer from -1"],
    ["topP", 1.01, "from 0 to 1"],
    ["minP", -1, "from 0 to 1"],
    ["repeatPenalty", 0, "from 0.01 to 100"],
    ["presencePenalty", Infinity, "from -100 to 100"],
    ["frequencyPenalty", 101, "from -100 to 100"],
    ["penaltyLastN", -2, "an integer from -1"],
    ["seed", 0.5, "a safe integer"],
    ["logitBias", new Map([[-1, 0]]), "token ids"],
    ["logitBias", new Map([[1, Number.NaN]]), "finite"],
  ])("refuses %s of %s", (name, value, range) => {
    const act = () => createSampler({ ...defaultSampling, [name]: value });
    expect(act).toThrow(expect.objectContaining({ code: "BAD_USAGE", message: expect.stringContaining(range) }));
  });
});
