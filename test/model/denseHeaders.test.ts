import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe as describeTests, expect, it } from "vitest";
import { outlineOf, rankOf } from "#stellium/cluster/rankPlan";
import { chosenFactors } from "#stellium/model/ropeFactors";
import { describe } from "#stellium/model/support";
import { readGguf } from "#stellium/weights/gguf/reader";
import { writeHeader } from "../../bench/generateModel.mjs";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function headerOf(shape: string) {
  const path = join(folder, `${shape}.gguf`);
  await writeHeader({ shape, type: "F32", path });
  return await readGguf(path);
}

describeTests("RoPE factors for long and short contexts", () => {
  it("are chosen by the context against the original one", async () => {
    const description = describe(await headerOf("tiny-phi-long"));
    expect(chosenFactors(description, 256)).toBe("short");
    expect(chosenFactors(description, 512)).toBe("long");
  });

  it("are no choice of a model that has one set, or none", async () => {
    expect(chosenFactors(describe(await headerOf("tiny-granite")), 1 << 20)).toBeUndefined();
    expect(chosenFactors(describe(await headerOf("tiny-gemma2")), 1 << 20)).toBeUndefined();
  });
});

describeTests("a rank finds out from its plan", () => {
  it.each([
    ...["tiny-cohere2-pattern", "tiny-phi-long", "tiny-granite-nope", "tiny-gemma3"],
    ...["tiny-gemma4", "tiny-gemma4-keys"],
  ])("all of %s", async (shape) => {
    const model = await headerOf(shape);
    const engine = { context: 512, batch: 512, kvType: "f16", slots: 1, storedCells: 0 } as const;
    const shares = { relative: [2, 1, 1], head: "coordinator" } as const;
    const plan = { rank: 1, shares, model: outlineOf(model, "ab".repeat(32)), engine };
    const { blocks, hyperparameters } = rankOf(JSON.parse(JSON.stringify(plan)));
    const whole = describe(model);
    expect(hyperparameters).toEqual(whole.hyperparameters);
    const facts = (from: readonly object[]) =>
      from.map((block) => {
        const { window, rope, scale } = block as Record<string, unknown>;
        return { window, rope, scale };
      });
    expect(facts(blocks)).toEqual(facts(whole.blocks));
  });
});
