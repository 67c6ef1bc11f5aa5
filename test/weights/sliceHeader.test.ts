import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { slicePath } from "#stellium/weights/sliceDirectory";
import {
  encodeHeader,
  parsedHeader,
  readHeader,
  type SliceHeader,
  sliceContentSchema,
} from "#stellium/weights/sliceHeader";
import { layOutSlice } from "#stellium/weights/sliceLayout";
import { checkSlice, filledBlocks, openSlice } from "#stellium/weights/sliceStore";
import { device, ggml, sliceOf } from "./sliceFixture.ts";

const { cut, header } = sliceOf([1, 2], 1);
const json = JSON.stringify(header);

/** Random numbers that are the same each time. */
function generator(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
}

function reader(bytes: Buffer) {
  return async (offset: number, length: number) => bytes.subarray(offset, offset + length);
}

/** Some leaf of the header, put to something else. */
function changedLeaf(random: (most: number) => number): string {
  const copy = structuredClone(header) as unknown as Record<string, unknown>;
  let node: Record<string, unknown> = copy;
  for (;;) {
    const keys = Object.keys(node);
    const key = keys[random(keys.length)]!;
    const child = node[key];
    if (typeof child === "object" && child !== null && random(8) > 0) {
      node = child as Record<string, unknown>;
      continue;
    }
    const others = [-1, 0.5, 2 ** 53, 1e300, 64, "x", "", null, [], {}, true, (child as number) + 4096];
    node[key] = others[random(others.length)];
    return JSON.stringify(copy);
  }
}

/** That a header that was accepted is one whose numbers lead nowhere they should not. */
function expectBounded({ blocks }: SliceHeader): void {
  let end = 0;
  for (const { offset, bytes, tensors } of blocks) {
    expect(offset >= end && offset % 4096 === 0).toBe(true);
    end = offset + bytes;
    expect(Number.isSafeInteger(end)).toBe(true);
    for (const tensor of tensors) expect(tensor.offset + tensor.bytes).toBeLessThanOrEqual(bytes);
  }
}

describe("a slice's header", () => {
  it("comes back as it was written", async () => {
    const encoded = encodeHeader(header);
    const read = await readHeader(reader(encoded.bytes));
    expect(read.header).toEqual(header);
    expect(read.encoded).toEqual(encoded);
    expect(sliceContentSchema.parse(JSON.parse(JSON.stringify(cut.content)))).toEqual(cut.content);
  });

  it("may have tensors of several matrices, which have to be whole", () => {
    const parse = (matrixRows: number, kind = "matrix") => {
      const part = { name: "blk.0.attn_k_b.weight", kind, type: "F32", rows: { start: 16, count: 24 }, matrixRows };
      const blocks = [{ kind: "latentAttention", layer: 0, tensors: [{ ...part, columns: { start: 0, count: 32 } }] }];
      return sliceContentSchema.safeParse({ ...cut.content, blocks }).data?.blocks[0]?.tensors[0]?.matrixRows;
    };
    expect([parse(8), parse(24)]).toEqual([8, 24]);
    expect([parse(7), parse(0), parse(2.5), parse(48), parse(8, "vector")]).toEqual(Array(5).fill(undefined));
  });

  it("is the same text as ever: slices on disks are recognized by it", () => {
    const range = (start: number, count: number) => ({ start, count });
    const vector = (name: string, count: number) => {
      return { name, kind: "vector" as const, type: "F32" as const, rows: range(0, 1), columns: range(8, count) };
    };
    const content = {
      model: { hash: "ab".repeat(32), name: "a model" },
      share: { kvHeads: range(0, 1), ffn: range(2, 3), vocabulary: range(0, 0) },
      blocks: [
        {
          kind: "attention",
          layer: 0,
          tensors: [vector("blk.0.attn_norm.weight", 100), vector("blk.0.attn_q.bias", 24)],
        },
        { kind: "shared", layer: 0, tensors: [] },
      ],
    };
    const laidOut = layOutSlice(content, ggml, device);
    const { hash } = encodeHeader({ ...laidOut, device: { ggml: "1.2.3", features: ["SSE3"] } });
    expect(hash.toString("hex")).toBe("6c29d446dbf751ce4fe5dda6627c54c0dedc8bfe961b17cf6f6369e46e6c98c6");
  });

  it("is accepted or refused, and nothing else, for 5,000 mutations of its bytes and of what they say", async () => {
    const random = generator(7);
    const { bytes } = encodeHeader(header);
    const reasons = new Map<string, number>();
    for (let i = 0; i < 2500; i++) {
      const mutated = Buffer.from(bytes);
      for (let n = 0; n <= random(4); n++) mutated[random(random(2) ? 64 : mutated.length)] = random(256);
      const cutTo = random(4) === 0 ? random(mutated.length) : mutated.length;
      const result = await readHeader(reader(mutated.subarray(0, cutTo))).catch((error: Error) => error);
      if (result instanceof Error) reasons.set(result.message, (reasons.get(result.message) ?? 0) + 1);
      else expect(result.header).toEqual(header);
    }
    expect([...reasons.keys()].filter((reason) => !/^(it is|it has|its header is)/.test(reason))).toEqual([]);
    let accepted = 0;
    for (let i = 0; i < 2500; i++) {
      try {
        expectBounded(parsedHeader(changedLeaf(random)));
        accepted++;
      } catch (error) {
        expect((error as Error).message).toMatch(/^its header is not valid/);
      }
    }
    expect(accepted).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(1500);
  });

  it.each<[string, (text: string) => string]>([
    ["no JSON", (text) => text.slice(1)],
    ["another field", (text) => text.replace("{", '{"more":1,')],
    ["an unknown type", (text) => text.replace('"Q4_0"', '"Q9_9"')],
    ["overlapping blocks", (text) => text.replace(/"offset":\d{5,},"bytes"/, '"offset":0,"bytes"')],
    ["columns within a quantization block", (text) => text.replace(/"columns":\{"start":0/, '"columns":{"start":1')],
  ])("is refused with %s", (_, change) => {
    const changed = change(json);
    expect(changed).not.toBe(json);
    if (changed.includes('"start":1,')) expect(() => parsedHeader(changed.replaceAll('"F32"', '"Q4_0"'))).toThrow();
    else expect(() => parsedHeader(changed)).toThrow(/its header is not/);
  });

  it("that is garbage has all of the slice fetched anew", async () => {
    const directory = await mkdtemp(join(tmpdir(), "stellium-header-"));
    const path = slicePath(directory, header);
    for (const bytes of [Buffer.alloc(0), Buffer.from("STLSLICE"), Buffer.alloc(100_000, 1)]) {
      await writeFile(path, bytes);
      await expect(openSlice(path)).rejects.toMatchObject({ code: "SLICE_INVALID" });
      const check = await checkSlice(directory, header);
      expect([check.missing, check.reason]).toEqual([filledBlocks(header), "it is no slice"]);
    }
  });
});
