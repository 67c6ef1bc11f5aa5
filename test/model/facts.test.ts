import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import type { Architecture, Biases, RopeMode, Sliding } from "#stellium/model/architecture";
import { architectures } from "#stellium/model/architectures";
import { readGguf } from "#stellium/weights/gguf/reader";
import { denseShapes } from "../../bench/model/denseShapes.mjs";
import { type DenseModel, dense, differenceTo, ModelFiles, noticed } from "../engine/dense.ts";
import { LoadedModel } from "./loadedModel.ts";

const shapes: Record<string, { architecture: string }> = denseShapes;
const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

interface Known {
  readonly model: DenseModel;
  readonly loaded: LoadedModel;
  /** Rounding of a batch against the reference's single tokens. */
  readonly rounding: number;
  readonly tensors: number;
}

/** The models that show an architecture's facts: in F32, then the deep ones. */
async function modelsOf(architecture: Architecture): Promise<Known[]> {
  const known: Known[] = [];
  for (const model of dense.models) {
    const { shape, type } = model.generator!;
    if (shapes[shape]!.architecture !== architecture.name || !(type === "F32" || shape.endsWith("-deep"))) continue;
    const gguf = await readGguf((await files.make(model)).path);
    const loaded = await LoadedModel.load(gguf, architecture);
    const rounding = distance({ model, loaded }, architecture);
    known.push({ model, loaded, rounding, tensors: gguf.tensors.size });
  }
  return known.sort((a, b) => a.tensors - b.tensors);
}

/** Distance of a model with these facts from its reference; infinite if it is refused. */
function distance({ model, loaded }: Pick<Known, "model" | "loaded">, facts: Architecture): number {
  try {
    return differenceTo(model.runs[0]!, loaded.teacherForced(facts, model.runs[0]!));
  } catch (error) {
    if (error instanceof StelliumError && error.code === "MODEL_UNSUPPORTED") return Infinity;
    throw error;
  }
}

type Mutation = [fact: string, facts: Architecture];

/** Each fact once, as something else: dropped, if nothing else is said here. */
function mutations(facts: Architecture): Mutation[] {
  const { name: _, models: __, rope: ___, ...droppable } = facts;
  return [
    ["rope", { ...facts, rope: otherRope[facts.rope] }],
    // It rounds differently, which only llama.cpp's tokens show.
    ...Object.keys(droppable)
      .filter((key) => key !== "scalesQueries")
      .map((key): Mutation => [key, without(facts, key as keyof Architecture)]),
    ...otherValues(facts),
    ...biasMutations(facts, facts.biases ?? {}),
    ...slidingMutations(facts, facts.sliding),
  ];
}

const otherRope: Readonly<Record<RopeMode, RopeMode>> = { norm: "neox", neox: "norm", mrope: "neox", imrope: "mrope" };

/** Facts that may be stated, but wrongly. */
function otherValues(facts: Architecture): Mutation[] {
  const { ropeLayers, logitScale, qkNorm, softcaps, ropeFactors = [] } = facts;
  return [
    ...(typeof ropeLayers === "object"
      ? [changed(facts, { ropeLayers: { allButEvery: ropeLayers.allButEvery - 1 } })]
      : []),
    ...(logitScale ? [changed(facts, { logitScale: logitScale === "multiply" ? "divide" : "multiply" })] : []),
    ...(qkNorm ? [changed(facts, { qkNorm: qkNorm === "all" ? "head" : "all" })] : []),
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

describe.each(architectures.slice(3))("each fact of $name", (architecture) => {
  let known: Known[];
  beforeAll(async () => {
    known = await modelsOf(architecture);
  });
  afterAll(() => {
    for (const { loaded } of known) loaded[Symbol.dispose]();
  });

  it("is as llama.cpp has it", () => {
    for (const { model, rounding } of known) {
      if (model.generator!.type === "F32") expect(rounding, model.generator!.shape).toBeLessThan(noticed);
    }
  });

  it.each(mutations(architecture))("%s matters", (fact, facts) => {
    const differences = [];
    for (const each of known) {
      differences.push(distance(each, facts) - 2 * each.rounding);
      if (differences.at(-1)! > noticed) break;
    }
    expect(Math.max(...differences), fact).toBeGreaterThan(noticed);
  });
});
