import { describe, expect, it } from "vitest";
import type { ByteSource } from "#stellium/weights/byteSource";
import { type BlockReader, SharedReading } from "#stellium/weights/sharedReading";
import { type TensorSlice, wholeTensor } from "#stellium/weights/slice";

const rows = 8;
const columns = 6;
const blocks = 5;
const tensorBytes = 4 * rows * columns;
const content = Uint8Array.from({ length: blocks * tensorBytes }, (_, i) => (i * 31) % 251);

/** A file that counts what is read of it. */
function countingSource() {
  const counted = { bytes: 0, fail: undefined as Error | undefined };
  const source: ByteSource = {
    name: "memory",
    size: content.length,
    async read(offset, length) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (counted.fail) throw counted.fail;
      counted.bytes += length;
      return content.slice(offset, offset + length);
    },
    async close() {},
  };
  return { source, counted };
}

/** Some columns of a matrix in each block. */
function slices(start: number, count: number): TensorSlice[][] {
  return Array.from({ length: blocks }, (_, block) => {
    const shape = [columns, rows];
    const offset = block * tensorBytes;
    const tensor = { name: `t${block}`, type: "F32", shape, file: 0, offset, bytes: tensorBytes } as const;
    return [{ ...wholeTensor(tensor), columns: { start, count } }];
  });
}

async function bytesOf(reader: BlockReader, indices: readonly number[]): Promise<Buffer[]> {
  const read: Buffer[] = [];
  for (const index of indices) {
    const pieces: Uint8Array[] = [];
    for await (const piece of reader.block(index)) pieces.push(piece.slice());
    read.push(Buffer.concat(pieces));
  }
  return read;
}

function expected(block: number, start: number, count: number): Buffer {
  const row = (i: number) => content.subarray(block * tensorBytes + 4 * (i * columns + start)).subarray(0, 4 * count);
  return Buffer.concat(Array.from({ length: rows }, (_, i) => row(i)));
}

const everyBlock = [0, 1, 2, 3, 4];

describe("ranks that read together", () => {
  it("read rows once, each its own columns of them", async () => {
    const { source, counted } = countingSource();
    const reading = new SharedReading([source], { readers: 3 });
    const readers = [0, 2, 4].map((start) => ({ start, reader: reading.join(slices(start, 2)) }));
    const read = Promise.all(readers.map(({ reader }) => bytesOf(reader, everyBlock)));
    reading.open();
    for (const [i, bytes] of (await read).entries()) {
      expect(bytes).toEqual(everyBlock.map((block) => expected(block, readers[i]!.start, 2)));
    }
    expect(counted.bytes).toBe(content.length);
  });

  it("wait for one that has more to read, but not for one that gets no further or has left", async () => {
    const { source, counted } = countingSource();
    const reading = new SharedReading([source], { readers: 3, patience: 1000 });
    reading.open();
    const [first, second, third] = [0, 2, 4].map((start) => reading.join(slices(start, 2)));
    await Promise.all([bytesOf(first!, [3, 4]), bytesOf(second!, everyBlock)]);
    expect(counted.bytes).toBe(content.length);
    second![Symbol.dispose]();
    expect(await bytesOf(third!, [0])).toEqual([expected(0, 4, 2)]);
    expect(counted.bytes).toBe(content.length + tensorBytes);
  });

  it("do not wait for those that need nothing", async () => {
    const { source } = countingSource();
    const reading = new SharedReading([source], { readers: 64, grace: 30 });
    reading.open();
    expect(await bytesOf(reading.join(slices(0, 6)), everyBlock)).toEqual(
      everyBlock.map((block) => expected(block, 0, 6)),
    );
  });

  it("can try again what failed, and all end when they are told to", async () => {
    const { source, counted } = countingSource();
    const reading = new SharedReading([source], { readers: 1 });
    reading.open();
    const reader = reading.join(slices(0, 2));
    counted.fail = new Error("cut");
    await expect(bytesOf(reader, [0])).rejects.toThrow("cut");
    counted.fail = undefined;
    expect(await bytesOf(reader, [0])).toEqual([expected(0, 0, 2)]);
    const waiting = new SharedReading([source], { readers: 2 });
    const read = bytesOf(waiting.join(slices(0, 2)), [0]);
    waiting.fail(new Error("a device is lost"));
    await expect(read).rejects.toThrow("a device is lost");
  });
});
