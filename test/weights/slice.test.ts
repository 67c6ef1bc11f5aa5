import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { rowBytes } from "#stellium/native/tensorTypes";
import { rowsWithin } from "#stellium/weights/repack";
import { gatherColumns, sliceBytes, sliceShape, type TensorSlice, wholeTensor } from "#stellium/weights/slice";
import { readSlice, readSlices } from "#stellium/weights/sliceReader";
import { memorySource } from "./sliceFixture.ts";

const tensor = { name: "ffn_down", type: "Q4_0", shape: [512, 300], file: 0, offset: 64, bytes: 288 * 300 } as const;

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

/** One element block at a time: slow, and beyond doubt. */
async function expected(source: ReturnType<typeof memorySource>, { tensor, rows, columns }: TensorSlice) {
  const row = rowBytes(tensor.type, tensor.shape[0]!);
  const parts: Uint8Array[] = [];
  for (let i = rows.start; i < rows.start + rows.count; i++) {
    const start = tensor.offset + i * row + rowBytes(tensor.type, columns.start);
    parts.push(await source.read(start, rowBytes(tensor.type, columns.count)));
  }
  return Buffer.concat(parts);
}

describe("reading a slice", () => {
  it("gives the bytes of any rows and columns, in any buffer", async () => {
    const range = (most: number, unit: number) =>
      fc.tuple(fc.nat(most - 1), fc.nat(most - 1)).map(([a, b]) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b) + 1];
        return { start: start * unit, count: (end - start) * unit };
      });
    const source = memorySource(64 + tensor.bytes);
    await fc.assert(
      fc.asyncProperty(
        range(300, 1),
        range(16, 32),
        fc.integer({ min: 1, max: 100_000 }),
        async (rows, columns, room) => {
          const slice = { ...wholeTensor(tensor), rows, columns };
          const bytes = await bytesOf(readSlices([source], [slice], room));
          expect(bytes.equals(await expected(source, slice))).toBe(true);
          expect(bytes.length).toBe(sliceBytes(slice));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("reads whole row groups, and no more at a time than the buffer holds", async () => {
    const source = memorySource(64 + tensor.bytes);
    const rows: number[] = [];
    for await (const chunk of readSlice(source, wholeTensor(tensor), 50_000)) rows.push(chunk.length / 288);
    expect(rows).toEqual([128, 128, 44]);
    expect(Math.max(...source.reads.map(([, length]) => length))).toBeLessThanOrEqual(50_000);
    expect(rowsWithin(10, 288)).toBe(1);
    expect(rowsWithin(288 * 63, 288)).toBe(63);
    expect(rowsWithin(288 * 127, 288)).toBe(64);
  });

  it("moves columns together within the rows themselves as it does elsewhere", () => {
    const rows = Uint8Array.from({ length: 40 * 18 }, (_, i) => i % 251);
    for (const [offset, bytes] of [
      [0, 5],
      [3, 12],
      [17, 1],
      [1, 17],
    ] as const) {
      const columns = { rowBytes: 18, offset, bytes };
      const elsewhere = gatherColumns(rows, columns, new Uint8Array(40 * bytes));
      expect(gatherColumns(rows.slice(), columns)).toEqual(elsewhere);
      expect(elsewhere.slice(-bytes)).toEqual(rows.slice(39 * 18 + offset).slice(0, bytes));
    }
  });

  it("asks for the same bytes for all ranks that share a matrix by columns", async () => {
    const source = memorySource(64 + tensor.bytes);
    const half = (start: number) => ({ ...wholeTensor(tensor), columns: { start, count: 256 } });
    for (const start of [0, 256]) await bytesOf(readSlices([source], [half(start)], 50_000));
    expect(source.reads.slice(0, 3)).toEqual(source.reads.slice(3));
  });

  it("knows the shape of a part of a matrix, of several matrices, and of a vector", () => {
    const part = { ...wholeTensor(tensor), rows: { start: 3, count: 5 }, columns: { start: 32, count: 64 } };
    expect(sliceShape(part)).toEqual([64, 5]);
    expect(sliceShape({ ...part, rows: { start: 3, count: 15 }, matrixRows: 5 })).toEqual([64, 5, 3]);
    const vector = wholeTensor({ ...tensor, type: "F32", shape: [512] });
    expect([sliceShape(vector), sliceBytes(vector)]).toEqual([[512], 2048]);
  });
});
