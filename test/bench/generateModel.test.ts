import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readGguf } from "#stellium/weights/gguf/reader";
import { generateModel, modelBytes, planModel, shapes, tensorBytes } from "../../bench/generateModel.mjs";

const directory = mkdtempSync(join(tmpdir(), "stellium-models-"));
afterAll(() => rmSync(directory, { recursive: true }));

const tiny = { shape: "tiny-llama", type: "Q4_K_M", seed: 1 };

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe("generateModel", () => {
  it("writes the same file for the same seed, and another for another", async () => {
    const hashes = [];
    for (const seed of [1, 1, 2]) {
      const path = join(directory, "seeded.gguf");
      await generateModel({ ...tiny, seed, path });
      hashes.push(sha256(readFileSync(path)));
    }
    expect(hashes[1]).toBe(hashes[0]);
    expect(hashes[2]).not.toBe(hashes[0]);
  });

  it.each(Object.keys(shapes).filter((name) => name.startsWith("tiny-")))("writes a readable %s", async (shape) => {
    const path = join(directory, `${shape}.gguf`);
    const plan = await generateModel({ shape, type: "Q8_0", path });
    const model = await readGguf(path);
    expect(model.fileBytes).toEqual([plan.fileBytes]);
    expect([...model.tensors.keys()]).toEqual(plan.tensors.map(({ name }) => name));
    expect(model.metadata.get("tokenizer.ggml.tokens")).toHaveLength(512);
    const last = plan.tensors.at(-1)!;
    const read = model.tensors.get(last.name)!;
    expect(readFileSync(path).subarray(read.offset, read.offset + read.bytes)).toEqual(tensorBytes(last, 0, last.rows));
  });

  it("writes each expert of a file of 2023 as it is in the tensor of all", () => {
    const all = planModel({ shape: "tiny-mixtral", type: "Q4_K" });
    const each = planModel({ shape: "tiny-mixtral-2023", type: "Q4_K" });
    for (const part of ["gate", "up", "down"]) {
      const stacked = all.tensors.find(({ name }) => name === `blk.1.ffn_${part}_exps.weight`)!;
      const experts = Array.from({ length: 8 }, (_, expert) => {
        const spec = each.tensors.find(({ name }) => name === `blk.1.ffn_${part}.${expert}.weight`)!;
        return tensorBytes(spec, 0, spec.rows);
      });
      expect(Buffer.concat(experts).equals(tensorBytes(stacked, 0, stacked.rows))).toBe(true);
    }
  });

  it("keeps routers F32, and in MXFP4 everything but experts Q8_0", () => {
    const { tensors } = planModel({ shape: "tiny-gpt-oss", type: "MXFP4" });
    const types = (end: string) => [...new Set(tensors.flatMap(({ name, type }) => (name.endsWith(end) ? type : [])))];
    expect(types("_exps.weight")).toEqual(["MXFP4"]);
    expect(types("ffn_gate_inp.weight")).toEqual(["F32"]);
    expect(types("attn_q.weight")).toEqual(["Q8_0"]);
    expect(types("output.weight")).toEqual(["Q8_0"]);
  });

  it("refuses a file that the disk has no room for, with both numbers", async () => {
    const path = join(directory, "large.gguf");
    const writing = generateModel({ shape: "llama-2-70b", type: "F32", layers: 4000, path });
    await expect(writing).rejects.toThrow(/needs \d+\.\d\d GB, and its disk has \d+\.\d\d GB free/);
  });

  it("names the shapes and types there are", () => {
    expect(() => planModel({ shape: "huge", type: "Q4_0" })).toThrow(/tinyllama-1\.1b/);
    expect(() => planModel({ shape: "tiny-llama", type: "Q9" })).toThrow(/Q4_K_M/);
  });
});

describe("byte ranges", () => {
  const plan = planModel(tiny);

  it.each([tiny, { shape: "tiny-gpt-oss", type: "MXFP4" }])("are the whole file's: $shape $type", (options) => {
    const plan = planModel(options);
    const whole = modelBytes(plan, 0, plan.fileBytes);
    for (let start = 0; start < plan.fileBytes; start += 99_991) {
      for (const length of [1, 143, 210, 70_001]) {
        const end = Math.min(plan.fileBytes, start + length);
        expect(modelBytes(plan, start, end).equals(whole.subarray(start, end))).toBe(true);
      }
    }
  });

  it("of rows do not depend on what was asked before", () => {
    const head = plan.tensors.at(-1)!;
    const rows = tensorBytes(head, 100, 200);
    expect(tensorBytes(head, 150, 151)).toEqual(rows.subarray(50 * head.rowBytes, 51 * head.rowBytes));
  });

  it("of a head hold no row twice", () => {
    const head = plan.tensors.at(-1)!;
    const rows = Array.from({ length: head.rows }, (_, row) => sha256(tensorBytes(head, row, row + 1)));
    expect(new Set(rows).size).toBe(head.rows);
  });
});

describe("real shapes", () => {
  it.each([
    ["tinyllama-1.1b", "Q4_0", 201, 1_100_048_384],
    ["llama-2-7b", "Q4_0", 291, 6_738_415_616],
    ["llama-3-8b", "Q4_K_M", 291, 8_030_261_248],
    ["llama-3.1-8b", "Q4_K_M", 292, 8_030_261_312],
    ["llama-2-70b", "Q4_K_M", 723, 68_976_648_192],
    ["llama-3-70b", "Q4_K_M", 723, 70_553_706_496],
    ["qwen2.5-0.5b", "Q8_0", 290, 494_032_768],
    ["qwen3-0.6b", "Q8_0", 310, 596_049_920],
    ["qwen3-30b-a3b", "Q4_K", 579, 30_532_122_624],
    ["mixtral-8x7b", "Q4_0", 323, 46_702_792_704],
    ["gpt-oss-20b", "MXFP4", 459, 20_914_757_184],
    ["gpt-oss-120b", "MXFP4", 687, 116_829_156_672],
    ["glm-4.5-air", "Q4_0", 803, 110_468_824_832],
  ])("%s has its model's tensors and parameters", (shape, type, tensors, parameters) => {
    const plan = planModel({ shape, type });
    const elements = plan.tensors.map((spec) => spec.shape.reduce((product, size) => product * size, 1));
    expect(plan.tensors).toHaveLength(tensors);
    expect(elements.reduce((sum, count) => sum + count, 0)).toBe(parameters);
  });

  it("say which matrices could not have the type", () => {
    const { notes } = planModel({ shape: "qwen2.5-0.5b", type: "Q6_K" });
    expect(notes.join()).toMatch(/matrices are Q8_0: token_embd/);
  });

  it("yield bytes from their far end at once", () => {
    const plan = planModel({ shape: "llama-2-70b", type: "Q4_0" });
    expect(modelBytes(plan, plan.fileBytes - 5000, plan.fileBytes).some((byte) => byte !== 0)).toBe(true);
  });
});
