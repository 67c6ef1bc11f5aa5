import { afterAll, describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import type { Architecture, Biases, RopeMode, Sliding } from "#stellium/model/architecture";
import { architectures } from "#stellium/model/architectures";
import { readGguf } from "#stellium/weights/gguf/reader";
import { denseShapes } from "../../bench/model/denseShapes.mjs";
import { type DenseModel, dense, differenceTo, ModelFiles, noticed, rounding } from "../engine/dense.ts";
import type { ReferenceRun } from "../engine/oracle.ts";
import { LoadedModel } from "./loadedModel.ts";

const shapes: Record<string, { architecture: string }> = denseShapes;
const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

/**
 * A model that shows an architecture's facts, compared with what llama.cpp says. Other facts are noticed in a short text,
 * which takes a fifth of the time, or else in the reference's.
 */
class Known implements Disposable {
  readonly #reference: ReferenceRun;
  readonly #loaded: LoadedModel;
  readonly #facts: Architecture;
  readonly #short: ReferenceRun;
  /** Rounding of a batch against the reference's single tokens. */
  readonly rounding: number;

  static async load({ model, architecture }: Shown): Promise<Known> {
    const { path } = await files.make(model);
    return new Known(model.runs[0]!, await LoadedModel.load(await readGguf(path), architecture), architecture);
  }

  private constructor(reference: ReferenceRun, loaded: LoadedModel, facts: Architecture) {
    this.#reference = reference;
    this.#loaded = loaded;
    this.#facts = facts;
    this.rounding = differenceTo(reference, loaded.teacherForced(facts, reference));
    const short = { ...reference, prompt: reference.prompt.slice(-shortPrompt) };
    this.#short = { ...short, top: loaded.teacherForced(facts, short).map(mostLikely) };
  }

  /** The largest difference to the reference if each token is computed in a pass of its own, as there. */
  get decoding(): number {
    return differenceTo(this.#reference, this.#loaded.teacherForced(this.#facts, this.#reference, "each"));
  }

  /** True if other facts make another answer of a text, or are refused. */
  notices(facts: Architecture, text: "short" | "whole"): boolean {
    const run = text === "short" ? this.#short : this.#reference;
    return this.#distance(facts, run) > noticed + 2 * this.rounding;
  }

  #distance(facts: Architecture, run: ReferenceRun): number {
    try {
      return differenceTo(run, this.#loaded.teacherForced(facts, run));
    } catch (error) {
      if (error instanceof StelliumError && error.code === "MODEL_UNSUPPORTED") return Infinity;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#loaded[Symbol.dispose]();
  }
}

/** Tokens before those that a short text is compared at. */
const shortPrompt = 20;

/** The five most likely tokens, with their log-probabilities. */
function mostLikely(row: Float64Array): [number, number][] {
  return [...row.entries()].sort(([, a], [, b]) => b - a).slice(0, 5);
}

/** A model, and the architecture whose facts it shows. */
interface Shown {
  readonly model: DenseModel;
  readonly architecture: Architecture;
}

/** The models that show an architecture's facts: in F32, then the deep ones. */
function modelsOf(architecture: Architecture): Shown[] {
  const own = dense.models.filter(({ generator }) => shapes[generator!.shape]!.architecture === architecture.name);
  const inF32 = own.filter(({ generator }) => generator!.type === "F32");
  const deep = own.filter(({ generator }) => generator!.shape.endsWith("-deep"));
  return [...inF32, ...deep].map((model) => ({ model, architecture }));
}

type Mutation = [fact: string, facts: Architecture];

/** Each fact once, as something else: dropped, if nothing else is said here. */
function mutations(facts: Architecture): Mutation[] {
  const { name: _, models: __, rope: ___, ...droppable } = facts;
  return [
    ["rope", { ...facts, rope: otherRope[facts.rope] }],
    // It rounds differently, which only llama.cpp's tokens show.
    ...Object.keys(droppable)
      .filter((key) => key !== "scalesQueries" && key !== "experts")
      .map((key): Mutation => [key, without(facts, key as keyof Architecture)]),
    ...otherValues(facts),
    ...biasMutations(facts, facts.biases ?? {}),
    ...slidingMutations(facts, facts.sliding),
  ];
}

const otherRope: Readonly<Record<RopeMode, RopeMode>> = { norm: "neox", neox: "norm", mrope: "neox", imrope: "mrope" };

/** Facts that may be stated, but wrongly. */
function otherValues(facts: Architecture): Mutation[] {
  const { ropeLayers, logitScale, qkNorm, softcaps, temperatureScale, ropeFactors = [] } = facts;
  return [
    ...(typeof ropeLayers === "object"
      ? [changed(facts, { ropeLayers: { allButEvery: ropeLayers.allButEvery - 1 } })]
      : []),
    ...(logitScale ? [changed(facts, { logitScale: logitScale === "multiply" ? "divide" : "multiply" })] : []),
    ...(qkNorm ? [changed(facts, { qkNorm: qkNorm === "all" ? "head" : "all" })] : []),
    ...(temperatureScale
      ? [changed(facts, { temperatureScale: temperatureScale === "key" ? "originalContext" : "key" })]
      : []),
    ...Object.keys(softcaps ?? {}).map((cap) => changed(facts, { softcaps: omit(softcaps!, cap) })),
    ...ropeFactors.map((kind) => changed(facts, { ropeFactors: ropeFactors.filter((other) => other !== kind) })),
  ];
}

function changed(facts: Architecture, change: Partial<Architecture>): Mutation {
  return [JSON.stringify(change), { ...facts, ...change }];
}

function without(facts: Architecture, fact: keyof Architecture): Architecture {
  return omit(facts, fact) as Architecture;
}

function omit<T extends object>(from: T, key: string): Partial<T> {
  return Object.fromEntries(Object.entries(from).filter(([name]) => name !== key)) as Partial<T>;
}

function biasMutations(facts: Architecture, { optional = [] }: Biases): Mutation[] {
  return optional.map((stem) => [
    `biases.${stem}`,
    { ...facts, biases: { optional: optional.filter((other) => other !== stem) } },
  ]);
}

function slidingMutations(facts: Architecture, sliding: Sliding | undefined): Mutation[] {
  if (sliding === undefined) return [];
  const changes: Partial<Record<keyof Sliding, Partial<Sliding>>> = {
    ...(sliding.period !== undefined && { period: { period: sliding.period + 1 } }),
    window: { window: 100 },
    onlyOf: { onlyOf: 8 },
    ropeBase: typeof sliding.ropeBase === "number" ? { ropeBase: 20_000 } : { ropeBase: 10 },
  };
  const stated = Object.keys(sliding) as (keyof Sliding)[];
  return stated.flatMap((key): Mutation[] => {
    const { [key]: _, ...others } = sliding;
    const change = changes[key];
    return [
      ...(change ? [[`another sliding.${key}`, { ...facts, sliding: { ...sliding, ...change } }] as Mutation] : []),
      ...(key === "period" || key === "window"
        ? []
        : [[`no sliding.${key}`, { ...facts, sliding: others as Sliding }] as Mutation]),
    ];
  });
}

/** All but the first three, and those with experts only: see `moeFacts.test.ts`. */
const told = architectures.slice(3).filter((architecture) => modelsOf(architecture).length > 0);

describe.each(told)("each fact of $name", (architecture) => {
  const shown = modelsOf(architecture);
  /** Those that have been needed so far. */
  const loaded = new Map<Shown, Known>();
  afterAll(() => {
    for (const known of loaded.values()) known[Symbol.dispose]();
  });

  async function load(one: Shown): Promise<Known> {
    const known = loaded.get(one) ?? (await Known.load(one));
    loaded.set(one, known);
    return known;
  }

  it("is as llama.cpp has it", async () => {
    for (const one of shown.filter(({ model }) => model.generator!.type === "F32")) {
      expect((await load(one)).rounding, one.model.generator!.shape).toBeLessThan(noticed);
    }
  });

  it("is as llama.cpp has it, token by token", async () => {
    const { decoding } = await load(shown[0]!);
    expect(decoding).toBeLessThan(rounding["F32"]!);
  });

  it.each(mutations(architecture))("%s matters", async (fact, facts) => {
    for (const text of ["short", "whole"] as const) {
      for (const one of shown) if ((await load(one)).notices(facts, text)) return;
    }
    expect.fail(`nothing notices another ${fact}`);
  });
});
