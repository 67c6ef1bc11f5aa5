import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import { StelliumError } from "#stellium/errors";
import type { Architecture, Biases, Sliding } from "#stellium/model/architecture";
import { architectures } from "#stellium/model/architectures";
import { describeModel } from "#stellium/model/describeModel";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import type { GgufModel } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";
import { denseShapes } from "../../bench/model/denseShapes.mjs";
import { allAtOnce, type DenseModel, dense, differenceTo, ModelFiles, teacherForced } from "../engine/dense.ts";

/** More than rounding differs. */
const noticed = 0.2;
const shapes: Record<string, { architecture: string }> = denseShapes;
const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

interface Known {
  readonly model: DenseModel;
  readonly gguf: GgufModel;
  /** Rounding of a batch against the reference's single tokens. */
  readonly rounding: number;
}

/** The models that show an architecture's facts: in F32, then the deep ones. */
async function modelsOf(architecture: Architecture): Promise<Known[]> {
  const known: Known[] = [];
  for (const model of dense.models) {
    const { shape, type } = model.generator!;
    if (shapes[shape]!.architecture !== architecture.name || !(type === "F32" || shape.endsWith("-deep"))) continue;
    const gguf = await readGguf((await files.make(model)).path);
    known.push({ model, gguf, rounding: await distance({ model, gguf }, architecture) });
  }
  return known.sort((a, b) => a.gguf.tensors.size - b.gguf.tensors.size);
}

/** Distance of a model with these facts from its reference; infinite if it is refused. */
async function distance({ model, gguf }: Omit<Known, "rounding">, facts: Architecture): Promise<number> {
  try {
    const whole = describeModel(gguf, facts);
    const description = rankDescription(whole, planShares(whole, [1]), 0);
    await using engine = await Engine.start({ description, options: allAtOnce });
    return differenceTo(model.runs[0]!, await teacherForced(engine, model.runs[0]!));
  } catch (error) {
    if (error instanceof StelliumError && error.code === "MODEL_UNSUPPORTED") return Infinity;
    throw error;
  }
}

/** Each fact once, as something else: dropped, if nothing else is said here. */
function mutations(facts: Architecture): [string, Architecture][] {
  const {
    name: _,
    models: __,
    rope,
    ropeLayers,
    scaleByEmbeddingAt,
    logitScale,
    sliding,
    biases,
    scalesQueries: ____,
    ...others
  } = facts;
  const { [scaleByEmbeddingAt === undefined ? "name" : "scaleByEmbeddingAt"]: ___, ...unscaled } = facts;
  return [
    ["rope", { ...facts, rope: rope === "norm" ? "neox" : "norm" }],
    ...(typeof ropeLayers === "object"
      ? [
          ["ropeLayers.allButEvery", { ...facts, ropeLayers: { allButEvery: ropeLayers.allButEvery - 1 } }] as [
            string,
            Architecture,
          ],
        ]
      : []),
    ...(ropeLayers === undefined ? [] : [["ropeLayers", without(facts, "ropeLayers")] as [string, Architecture]]),
    ...(scaleByEmbeddingAt === undefined
      ? []
      : [["scaleByEmbeddingAt", unscaled as Architecture] as [string, Architecture]]),
    ...(logitScale === undefined
      ? []
      : [
          ["logitScale", { ...facts, logitScale: logitScale === "multiply" ? "divide" : "multiply" }] as [
            string,
            Architecture,
          ],
        ]),
    ...Object.keys(others).map((key): [string, Architecture] => [key, without(facts, key as keyof Architecture)]),
    ...biasMutations(facts, biases ?? {}),
    ...(sliding === undefined ? [] : slidingMutations(facts, sliding)),
  ];
}

function without(facts: Architecture, fact: keyof Architecture): Architecture {
  const { [fact]: _, ...others } = facts;
  return others as Architecture;
}

function biasMutations(facts: Architecture, { optional = [] }: Biases): [string, Architecture][] {
  return optional.map((stem) => [
    `biases.${stem}`,
    { ...facts, biases: { optional: optional.filter((other) => other !== stem) } },
  ]);
}

function slidingMutations(facts: Architecture, sliding: Sliding): [string, Architecture][] {
  const changes: Partial<Record<keyof Sliding, Partial<Sliding>>> = {
    period: { period: sliding.period + 1 },
    window: { window: 100 },
    onlyOf: { onlyOf: 8 },
    ropeBase: { ropeBase: 20_000 },
    ropeScaled: { ropeScaled: false },
  };
  const stated = Object.keys(sliding) as (keyof Sliding)[];
  return [
    ["sliding", without(facts, "sliding")],
    ...stated.map((key): [string, Architecture] => [
      `sliding.${key}`,
      { ...facts, sliding: { ...sliding, ...changes[key] } },
    ]),
  ];
}

describe.each(architectures.slice(3))("each fact of $name", (architecture) => {
  let known: Known[];
  beforeAll(async () => {
    known = await modelsOf(architecture);
  });

  it("is as llama.cpp has it", () => {
    for (const { model, rounding } of known) {
      if (model.generator!.type === "F32") expect(rounding, model.generator!.shape).toBeLessThan(noticed);
    }
  });

  it.each(mutations(architecture))("%s matters", async (fact, facts) => {
    const differences = [];
    for (const each of known) {
      differences.push((await distance(each, facts)) - 2 * each.rounding);
      if (differences.at(-1)! > noticed) break;
    }
    expect(Math.max(...differences), fact).toBeGreaterThan(noticed);
  });
});
