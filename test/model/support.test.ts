import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { architectureNames, describe as describeModelFile, supportOf } from "#stellium/model/support";
import type { GgufModel, GgufTensor, GgufValue } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));

/** The bundled model with other metadata or tensors; null takes one away. */
async function changed(
  metadata: Record<string, GgufValue | null>,
  tensors: Record<string, Partial<GgufTensor> | null> = {},
): Promise<GgufModel> {
  const model = await readGguf(demo);
  const values = new Map(model.metadata);
  for (const [key, value] of Object.entries(metadata)) value === null ? values.delete(key) : values.set(key, value);
  const all = new Map(model.tensors);
  for (const [name, change] of Object.entries(tensors)) {
    const base = all.get(name) ?? all.get("output_norm.weight")!;
    change === null ? all.delete(name) : all.set(name, { ...base, ...change, name });
  }
  return { ...model, metadata: values, tensors: all };
}

async function reasonAgainst(...change: Parameters<typeof changed>): Promise<string | undefined> {
  const support = await supportOf(await changed(...change));
  return support.supported ? undefined : support.reason;
}

describe("support of a model", () => {
  it("is there for the bundled one, and for the architectures that have a file", async () => {
    expect(await reasonAgainst({})).toBeUndefined();
    const folder = new URL("../../src/model/architectures/", import.meta.url);
    expect(architectureNames().sort()).toEqual(
      readdirSync(folder)
        .map((file) => file.replace(".ts", ""))
        .sort(),
    );
  });

  it.each<[string, Parameters<typeof changed>, string]>([
    [
      "another architecture",
      [{ "general.architecture": "mamba" }],
      "its architecture mamba is not one of those that run",
    ],
    ["an architecture that is a path", [{ "general.architecture": "../engine" }], "its architecture ../engine is not"],
    ["an adapter", [{ "general.type": "adapter" }], "it is an adapter (LoRA)"],
    ["a projector", [{ "general.architecture": "clip" }], "it is a projector (mmproj) for images"],
    ["a reranker", [{ "llama.pooling_type": 4 }], "it is a reranker"],
    ["a pooling it does not know", [{ "llama.pooling_type": 7 }], "its pooling_type is 7"],
    ["tokens that see those after them", [{ "llama.attention.causal": false }], "its tokens see those that follow"],
    ["more guessing layers than layers", [{ "llama.nextn_predict_layers": 5 }], "5 of its 5 layers"],
    ["a reranker's head", [{}, { "cls.output.weight": {} }], "it is a reranker"],
    ["an importance matrix", [{ "general.type": "imatrix" }], "it is an importance matrix"],
    [
      "experts without a router",
      [{ "llama.expert_count": 8, "llama.expert_used_count": 2 }],
      "it is a mixture of 8 experts, and none of its layers has a router",
    ],
    [
      "more experts used than there are",
      [{ "llama.expert_count": 8, "llama.expert_used_count": 9 }],
      "9 of its 8 experts",
    ],
    [
      "groups of experts that do not divide",
      [{ "llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 3 }],
      "8 experts do not divide into 3 groups",
    ],
    ["no architecture", [{ "general.architecture": null }], "general.architecture"],
    ["a missing tensor", [{}, { "blk.3.ffn_up.weight": null }], "it has no tensor blk.3.ffn_up.weight"],
    ["an unknown tensor", [{}, { "blk.0.attn_gate.weight": {} }], "it has an unknown tensor blk.0.attn_gate.weight"],
    [
      "a shape that does not fit",
      [{}, { "blk.1.attn_k.weight": { shape: [256, 128] } }],
      "blk.1.attn_k.weight is 256 x 128 where 256 x 256",
    ],
    [
      "a matrix of integers",
      [{}, { "blk.1.attn_k.weight": { type: "I32" } }],
      "blk.1.attn_k.weight is I32, not a type of weights",
    ],
    ["an embedding of integers", [{}, { "token_embd.weight": { type: "Q8_K" } }], "token_embd.weight is Q8_K"],
    ["a norm that is not F32", [{}, { "output_norm.weight": { type: "F16" } }], "output_norm.weight is F16, not F32"],
    ["heads that do not divide", [{ "llama.attention.head_count": 7 }], "7 heads"],
    [
      "KV heads that do not divide",
      [{ "llama.attention.head_count_kv": 3 }],
      "its 8 heads do not divide among 3 KV heads",
    ],
    ["no layers", [{ "llama.block_count": 0 }], "llama.block_count is 0"],
    ["absurdly many layers", [{ "llama.block_count": 2 ** 31 }], "llama.block_count is 2147483648"],
    [
      "layers that differ in heads",
      [{ "llama.attention.head_count": Int32Array.of(8, 4) }],
      "differs between layers (8, 4 ...)",
    ],
    [
      "fewer numbers than layers",
      [{ "llama.feed_forward_length": Int32Array.of(768, 512) }],
      "feed_forward_length has 2 values for 5 layers",
    ],
    ["RoPE it does not know", [{ "llama.rope.scaling.type": "longrope" }], "its RoPE scaling is longrope"],
    ["RoPE beyond a head", [{ "llama.rope.dimension_count": 64 }], "RoPE turns 64 of 32 values"],
    ["a RoPE base of zero", [{ "llama.rope.freq_base": 0 }], "its RoPE base is 0"],
    ["text where a number belongs", [{ "llama.embedding_length": "many" }], "llama.embedding_length is not a number"],
    ["a bias that a qwen2 model must have", [{ "general.architecture": "qwen2" }], "qwen2.attention.head_count"],
  ])("is refused with its name: %s", async (_, change, reason) => {
    expect(await reasonAgainst(...change)).toContain(reason);
  });

  it.each([
    [{}, "mean"],
    [{ "llama.pooling_type": 0 }, "mean"],
    [{ "llama.pooling_type": 1 }, "mean"],
    [{ "llama.pooling_type": 2 }, "cls"],
    [{ "llama.pooling_type": 3 }, "last"],
  ])("reads the pooling of embeddings from %j", async (metadata, pooling) => {
    expect(describeModelFile(await changed(metadata)).hyperparameters.pooling).toBe(pooling);
  });

  it("counts neither layers that guess further tokens, nor their tensors", async () => {
    const model = await changed({ "llama.nextn_predict_layers": 1 }, { "blk.4.nextn.eh_proj.weight": {} });
    const { hyperparameters, blocks, leftOut } = describeModelFile(model);
    expect([hyperparameters.blockCount, blocks.length]).toEqual([4, 9]);
    expect(leftOut).toBe([...model.tensors.keys()].filter((name) => name.startsWith("blk.4.")).length);
  });

  it("does not depend on tensors that do not touch text, which are counted", async () => {
    const tensors = { "v.blk.0.attn_q.weight": {}, "mm.0.weight": {}, "blk.4.nextn.eh_proj.weight": {} };
    expect(supportOf(await changed({}, tensors))).toEqual({ supported: true, leftOut: 3 });
    expect(supportOf(await changed({}))).toEqual({ supported: true });
  });

  it("takes one number for every layer, where they are equal", async () => {
    expect(
      await reasonAgainst({ "llama.feed_forward_length": Int32Array.of(768, 768, 768, 768, 768) }),
    ).toBeUndefined();
  });
});
