import { afterAll, describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import type { Architecture, ExpertFacts } from "#stellium/model/architecture";
import { architectures } from "#stellium/model/architectures";
import { supportOf } from "#stellium/model/support";
import { readGguf } from "#stellium/weights/gguf/reader";
import { moeShapes } from "../../bench/model/moeShapes.mjs";
import { type DenseModel, ModelFiles, noticed } from "../engine/dense.ts";
import { type ReferenceRun, readReferences } from "../engine/oracle.ts";
import { LoadedModel } from "./loadedModel.ts";

const shapes: Record<string, { architecture: string }> = moeShapes;
const { models } = readReferences("moe");
const files = new ModelFiles();
afterAll(() => files[Symbol.dispose]());

/** Longer than every window, and short enough for many passes. */
const shortPrompt = 60;

/** What a model says under some facts, against its own; infinite if it is refused. */
class Facts implements Disposable {
  readonly #run: ReferenceRun;
  readonly #loaded: LoadedModel;
  readonly #rows: readonly Float64Array[];

  static async of(model: DenseModel, own: Architecture): Promise<Facts> {
    const [run] = model.runs;
    const loaded = await LoadedModel.load(await readGguf((await files.make(model)).path), own);
    return new Facts({ ...run!, prompt: run!.prompt.slice(-shortPrompt) }, loaded, own);
  }

  private constructor(run: ReferenceRun, loaded: LoadedModel, own: Architecture) {
    this.#run = run;
    this.#loaded = loaded;
    this.#rows = loaded.teacherForced(own, run);
  }

  distance(facts: Architecture): number {
    try {
      const rows = this.#loaded.teacherForced(facts, this.#run);
      const differences = rows.map((row, i) =>
        Math.max(...row.map((value, j) => Math.abs(value - this.#rows[i]![j]!))),
      );
      return differences.reduce((most, value) => (value > most || Number.isNaN(value) ? value : most), 0);
    } catch (error) {
      if (error instanceof StelliumError && error.code === "MODEL_UNSUPPORTED") return Infinity;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#loaded[Symbol.dispose]();
  }
}

const gatings = ["softmax", "sigmoid", "softmaxOfChosen"] as const;

/** Each fact on experts once, as something else. */
function otherExperts(facts: ExpertFacts): [string, ExpertFacts][] {
  const { gating = "softmax", normalized = false } = facts;
  const without = (key: keyof ExpertFacts) =>
    Object.fromEntries(Object.entries(facts).filter(([name]) => name !== key));
  return [
    ["gating", { ...facts, gatingByKey: false, gating: gatings.find((other) => other !== gating)! }],
    // Of a softmax, the sum is 1.
    ...(gating === "softmaxOfChosen"
      ? []
      : [["normalized", { ...facts, normalized: normalized === false }] as [string, ExpertFacts]]),
    ...(facts.scaled ? [["scaled", without("scaled")] as [string, ExpertFacts]] : []),
    ...(facts.beside ? [["beside", without("beside")] as [string, ExpertFacts]] : []),
    ["activation", { ...facts, activation: facts.activation === undefined ? "gelu" : "silu" }],
  ];
}

/** Each fact once, dropped or as something else. */
function mutations(facts: Architecture): [string, Architecture][] {
  const { name: _, models: __, rope, experts, ...droppable } = facts;
  const without = (key: string) => Object.fromEntries(Object.entries(facts).filter(([name]) => name !== key));
  return [
    ["rope", { ...facts, rope: rope === "neox" ? "norm" : "neox" }],
    ...Object.keys(droppable).map((key): [string, Architecture] => [key, without(key) as unknown as Architecture]),
    ...otherExperts(experts!).map(([fact, other]): [string, Architecture] => [fact, { ...facts, experts: other }]),
  ];
}

/** Facts that only some models of an architecture show, by the tests of its dense ones, or that a norm after it undoes. */
const shownElsewhere: Readonly<Record<string, readonly string[]>> = {
  llama: ["ropeFactors", "biases"],
  deepseek2: ["temperatureScale"],
  gemma4: ["sharedCells", "normalized"],
};

const mixtures = architectures.filter(({ experts }) => experts !== undefined);

describe.each(mixtures)("each fact of $name, with experts,", (architecture) => {
  const own = models.filter(
    ({ generator }) => generator!.type === "F32" && shapes[generator!.shape]!.architecture === architecture.name,
  );

  it("matters", async () => {
    const left = new Map(
      mutations(architecture).filter(([fact]) => !shownElsewhere[architecture.name]?.includes(fact)),
    );
    for (const model of own) {
      using known = await Facts.of(model, architecture);
      for (const [fact, facts] of left) if (known.distance(facts) > noticed) left.delete(fact);
    }
    expect([...left.keys()]).toEqual([]);
  });
});

it("a model is refused if its experts have tensors of their own in different types", async () => {
  const file = models.find(({ generator }) => generator!.shape === "tiny-mixtral-2023" && generator!.type === "Q8_0")!;
  const model = await readGguf((await files.make(file)).path);
  const name = "blk.1.ffn_up.3.weight";
  const tensors = new Map(model.tensors).set(name, { ...model.tensors.get(name)!, type: "F16" });
  const support = supportOf({ ...model, tensors });
  expect(support).toMatchObject({ supported: false, reason: expect.stringContaining(`its tensor ${name} is F16`) });
});
