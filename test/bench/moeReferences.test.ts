import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { modelBytes, planModel } from "../../bench/generateModel.mjs";
import { moeShapes, sameWeights } from "../../bench/model/moeShapes.mjs";
import { readReferences } from "../engine/oracle.ts";

const { models } = readReferences("moe");
const shapesIn = (type: string) =>
  models.flatMap(({ generator }) => (generator!.type === type ? generator!.shape : []));

describe("llama.cpp's answers with tiny mixtures of experts", () => {
  it("are there for every shape", () => {
    const names = Object.keys(moeShapes);
    expect(shapesIn("Q8_0")).toEqual(names);
    expect(shapesIn("F32")).toEqual(names.filter((name) => !name.endsWith("-deep")));
  });

  // Other types depend on the CPU that quantizes.
  it.each(models.filter(({ generator }) => generator!.type === "F32"))(
    "are of the file that is made: $generator.shape",
    ({ generator, sha256 }) => {
      const plan = planModel(generator!);
      expect(
        createHash("sha256")
          .update(modelBytes(plan, 0, plan.fileBytes))
          .digest("hex"),
      ).toBe(sha256);
    },
  );

  it("are the same for the same weights in files of 2023", () => {
    for (const [shape, same] of Object.entries(sameWeights)) {
      for (const type of ["F32", "Q8_0", "Q4_K"]) {
        const [runs, others] = [shape, same].map(
          (name) => models.find(({ generator }) => generator!.shape === name && generator!.type === type)!.runs,
        );
        expect(runs).toEqual(others);
      }
    }
  });

  it("do not repeat a few tokens", () => {
    for (const { runs } of models) expect(new Set(runs[0]!.tokens).size).toBeGreaterThan(16);
  });
});
