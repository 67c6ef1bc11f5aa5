import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe as describeTests, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { stateOf } from "#stellium/model/blocks/definitions";
import { cellBytes } from "#stellium/model/cells";
import { describe } from "#stellium/model/support";
import { planMemory } from "#stellium/plan/memory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import type { GgufModel, GgufTensor, GgufValue } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";
import { localHead } from "#stellium/weights/localHead";
import { ModelSource } from "#stellium/weights/modelSource";
import { generateModel } from "../../bench/generateModel.mjs";
import { engineDefaults, startEngine } from "../engine/oracle.ts";
import { Ranks } from "../engine/ranks.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
/** One with embeddings for each layer, whose last layers read the cells of earlier ones; and one as the large ones are. */
const small = join(folder, "small.gguf");
const large = join(folder, "large.gguf");
beforeAll(async () => {
  await generateModel({ shape: "tiny-gemma4", type: "Q8_0", path: small });
  await generateModel({ shape: "tiny-gemma4-keys", type: "Q8_0", path: large });
});
afterAll(() => rmSync(folder, { recursive: true }));

async function changed(path: string, metadata: Record<string, GgufValue | undefined>): Promise<GgufModel> {
  const model = await readGguf(path);
  const values = Object.entries(metadata).map(([key, value]) => [`gemma4.${key}`, value] as const);
  const kept = [...new Map([...model.metadata, ...values])].filter(([, value]) => value !== undefined);
  return { ...model, metadata: new Map(kept as [string, GgufValue][]) };
}

describeTests("a Gemma 4 is refused", () => {
  const pattern = "attention.sliding_window_pattern";

  it.each<[string, Record<string, GgufValue | undefined>, string]>([
    ["that does not say which layers have a window", { [pattern]: undefined }, `it has no ${pattern}`],
    [
      "whose layer before those without keys has a window",
      { [pattern]: [true, false, true, true, true, false] },
      "its last 3 layers are to share the keys of a sliding layer and of the one after it",
    ],
    [
      "that shares the keys of no layer",
      { "attention.shared_kv_layers": 5 },
      "its last 5 layers are to share the keys",
    ],
    ["all of whose layers share keys", { "attention.shared_kv_layers": 6 }, "its last 6 layers are to share the keys"],
    [
      "whose layers have other heads than those whose keys they share",
      { "attention.head_count_kv": Int32Array.of(1, 1, 1, 1, 1, 2) },
      "layers that share the keys of layer 2 have another number of KV heads",
    ],
    [
      "whose heads do not divide among the KV heads of a layer",
      { "attention.head_count_kv": Int32Array.of(1, 1, 3, 1, 1, 3) },
      "its 4 heads do not divide among 3 KV heads",
    ],
    ["whose sliding layers turn more than a head", { "rope.dimension_count_swa": 64 }, "RoPE turns 64 of 32 values"],
    [
      "whose sliding layers have other values than keys",
      { "attention.value_length_swa": 64 },
      "its keys have 32 values a head, its values 64",
    ],
    [
      "that does not say how long embeddings for layers are",
      { embedding_length_per_layer_input: undefined },
      "embedding_length_per_layer_input",
    ],
    [
      "whose embeddings for layers have another length",
      { embedding_length_per_layer_input: 64 },
      "its tensor per_layer_model_proj.weight is 256 x 192 where 256 x 384 was expected",
    ],
  ])("%s", async (_, metadata, reason) => {
    const model = await changed(small, metadata);
    expect(() => describe(model)).toThrow(reason);
  });
});

describeTests("ranks of a Gemma 4", () => {
  const text = Array.from({ length: 90 }, (_, i) => (i * 53 + 7) % 500);
  const options: EngineOptions = { ...engineDefaults, slots: 2, storedCells: 512 };

  it("but the first one have neither embedding of tokens", async () => {
    const whole = describe(await readGguf(small));
    const [first, second] = [0, 1].map((rank) => rankDescription(whole, planShares(whole, [1, 1]), rank));
    const names = [...second!.shared, ...second!.blocks.flatMap(({ weights }) => weights)].map(
      ({ tensor }) => tensor.name,
    );
    expect(names.filter((name) => /embd|per_layer/.test(name))).toEqual([]);
    expect([second!.embedding, second!.perLayer]).toEqual([undefined, undefined]);
    expect(first!.perLayer?.table.name).toBe("per_layer_token_embd.weight");
    expect(first!.shared.map(({ name }) => name)).toContain("per_layer_model_proj.weight");
  });

  it("keep cells of the layers that have keys, as many heads as each has", async () => {
    const bytes = async (path: string, shares: readonly number[]) => {
      const whole = describe(await readGguf(path));
      const states = whole.blocks.flatMap((block) => stateOf(block) ?? []);
      return planShares(whole, shares).ranks.map((share) => cellBytes(states, share, "f16"));
    };
    // Keys and values in 2 bytes each: two layers of one head of 32 values, one of 64.
    expect(await bytes(small, [1])).toEqual([2 * 2 * (2 * 32 + 64)]);
    // Four layers of 4 heads of 32 values, two of 2 heads of 64, in two units.
    expect(await bytes(large, [1])).toEqual([2 * 2 * (4 * 4 * 32 + 2 * 2 * 64)]);
    expect(await bytes(large, [1, 1])).toEqual(Array(2).fill(2 * 2 * (4 * 2 * 32 + 2 * 64)));
  });

  it.each([
    ["small", small],
    ["large", large],
  ])("copy cells, and keep them beside the cache, of a %s one", async (_, path) => {
    await using ranks = await Ranks.start(path, [2, 1], options);
    const next = async (engine: Engine, slot: number) =>
      Float32Array.from(await engine.step({ slot, tokens: [3], position: text.length, outputs: 1 }));
    await ranks.first.step({ slot: 0, tokens: text, position: 0, outputs: 0 });
    await ranks.first.moveCells({ move: "copy", from: 0, to: 1, cells: text.length });
    await ranks.first.moveCells({ move: "save", slot: 0, key: 7, cells: text.length });
    const expected = await next(ranks.first, 0);
    expect(await next(ranks.first, 1)).toEqual(expected);
    await ranks.first.step({ slot: 1, tokens: [...text].reverse(), position: 0, outputs: 0 });
    expect(await next(ranks.first, 1)).not.toEqual(expected);
    await ranks.first.moveCells({ move: "restore", slot: 1, key: 7, cells: text.length });
    expect(await next(ranks.first, 1)).toEqual(expected);
  });

  it("are planned with more memory than their graphs take", async () => {
    const sized = { ...engineDefaults, batch: 256 };
    await using engine = await startEngine(small, sized);
    await engine.step({ tokens: [...text, ...text], position: 0, outputs: 1 });
    const ofLayers = 6 * 32;
    const planned = planMemory(engine.description, sized, 0).compute;
    // On the way here and in the lane, beside what graphs take.
    expect(planned - 4 * 2 * sized.batch * ofLayers).toBeGreaterThan(engine.computeBytes);
  });
});

describeTests("of a Gemma 4 behind an URL", () => {
  it("the device that leads stores both embeddings of tokens, and no other tensor", async () => {
    await using source = await ModelSource.open(small);
    const room = { claim: <T>(_: string, __: number, create: () => Promise<T>) => create() };
    const { files, hold } = await localHead(source, room, join(folder, "cache"));
    await using _ = hold;
    const [stored, model] = [readFileSync(files[0]!), readFileSync(small)];
    const same = ({ offset, bytes }: GgufTensor) =>
      stored.subarray(offset, offset + bytes).equals(model.subarray(offset, offset + bytes));
    const names = [...source.model.tensors.values()].filter(same).map(({ name }) => name);
    expect(names).toEqual(["token_embd.weight", "per_layer_token_embd.weight"]);
  });
});
