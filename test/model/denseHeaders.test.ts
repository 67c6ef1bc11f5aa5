import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe as describeTests, expect, it } from "vitest";
import { outlineOf, rankOf } from "#stellium/cluster/rankPlan";
import { chosenFactors } from "#stellium/model/ropeFactors";
import { describe, supportOf } from "#stellium/model/support";
import type { GgufValue } from "#stellium/weights/gguf/model";
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
    ...["tiny-deepseek2-dense", "tiny-gemma4", "tiny-gemma4-keys"],
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

describeTests("a model with latent attention", () => {
  /** The reason against one with other metadata; undefined takes a key away. */
  async function reasonAgainst(key: string, value: GgufValue | undefined): Promise<string | undefined> {
    const model = await headerOf("tiny-deepseek2-dense-temperature");
    const metadata = new Map(model.metadata);
    metadata.delete(`deepseek2.${key}`);
    if (value !== undefined) metadata.set(`deepseek2.${key}`, value);
    const support = supportOf({ ...model, metadata });
    return support.supported ? undefined : support.reason;
  }

  it("has a unit for each head, whatever it caches", async () => {
    const { units, hyperparameters } = describe(await headerOf("tiny-deepseek2-dense"));
    expect([units.kvHeads, hyperparameters.headCount, hyperparameters.headCountKv]).toEqual([6, 6, 6]);
  });

  it.each<[string, GgufValue | undefined, string | undefined]>([
    ["attention.key_length", 7, undefined],
    ["attention.key_length_mla", undefined, "it has no attention.key_length_mla: it needs to be converted again"],
    ["attention.value_length_mla", undefined, "it has no attention.value_length_mla"],
    ["attention.value_length_mla", 2 ** 40, "attention.value_length_mla is 1099511627776, not a count"],
    ["attention.kv_lora_rank", undefined, "attention.kv_lora_rank"],
    ["attention.kv_lora_rank", 128, "blk.0.attn_kv_a_mqa.weight is 256 x 288 where 256 x 160"],
    ["attention.q_lora_rank", undefined, "it has no tensor blk.0.attn_q.weight"],
    ["attention.q_lora_rank", -1, "attention.q_lora_rank is -1"],
    ["attention.temperature_length", undefined, "attention.temperature_length"],
    ["rope.scaling.yarn_log_multiplier", 1e300, "the scale of its attention is Infinity"],
    ["rope.dimension_count", 64, "RoPE turns 64 of 64 values a head"],
    ["rope.dimension_count", undefined, "RoPE turns 64 of 64 values a head"],
    ["rope.dimension_count", 16, "blk.0.attn_kv_a_mqa.weight is 256 x 288 where 256 x 272"],
  ])("and %s of %s is refused with the reason, if it matters", async (key, value, reason) => {
    const found = await reasonAgainst(key, value);
    if (reason === undefined) expect(found).toBeUndefined();
    else expect(found).toContain(reason);
  });
});
