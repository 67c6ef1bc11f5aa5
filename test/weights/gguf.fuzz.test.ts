import fc from "fast-check";
import { expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import type { GgufModel } from "#stellium/weights/gguf/model";
import { readGguf } from "#stellium/weights/gguf/reader";
import { buildGguf, memoryOpener, sampleFile } from "./ggufBuilder.ts";

const allowedGrowth = 64 * 2 ** 20;
const allowedMilliseconds = 1000;
const sample = buildGguf(sampleFile());
const extremes = [0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

type Mutation = (bytes: Buffer) => Buffer;

const position = fc.nat({ max: sample.length - 1 });
const inserted = (bytes: Buffer, at: number, what: Uint8Array) =>
  Buffer.concat([bytes.subarray(0, at), what, bytes.subarray(at)]);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(position, fc.nat({ max: 7 })).map(([at, bit]) => (bytes: Buffer) => {
    if (at < bytes.length) bytes[at]! ^= 1 << bit;
    return bytes;
  }),
  fc.tuple(position, fc.nat({ max: 255 })).map(([at, value]) => (bytes: Buffer) => {
    if (at < bytes.length) bytes[at] = value;
    return bytes;
  }),
  position.map((length) => (bytes: Buffer) => bytes.subarray(0, length)),
  fc.tuple(position, fc.constantFrom(...extremes)).map(([at, value]) => (bytes: Buffer) => {
    if (at + 8 <= bytes.length) bytes.writeBigUInt64LE(value, at);
    return bytes;
  }),
  fc.tuple(position, fc.constantFrom(0, 1, 9, 13, 2 ** 31, 2 ** 32 - 1)).map(([at, value]) => (bytes: Buffer) => {
    if (at + 4 <= bytes.length) bytes.writeUInt32LE(value, at);
    return bytes;
  }),
  fc.tuple(position, fc.uint8Array({ minLength: 1, maxLength: 16 })).map(
    ([at, what]) =>
      (bytes: Buffer) =>
        inserted(bytes, at, what),
  ),
  fc.tuple(position, fc.integer({ min: 1, max: 16 })).map(
    ([at, count]) =>
      (bytes: Buffer) =>
        Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]),
  ),
);
const mutated = fc
  .array(mutation, { minLength: 1, maxLength: 3 })
  .map((mutations) => mutations.reduce<Buffer>((bytes, mutate) => mutate(bytes), Buffer.from(sample)));

it("reads or refuses 20,000 mutated headers, in bounded time and memory", async () => {
  const outcomes = { read: 0, refused: 0 };
  const peakBefore = process.resourceUsage().maxRSS * 1024;
  await fc.assert(
    fc.asyncProperty(mutated, async (bytes) => {
      outcomes[await outcome(bytes)]++;
    }),
    { numRuns: 20_000 },
  );
  expect(outcomes.read).toBeGreaterThan(1000);
  expect(outcomes.refused).toBeGreaterThan(1000);
  // What 20,000 files leave for the garbage collector is in this number too.
  expect(process.resourceUsage().maxRSS * 1024 - peakBefore).toBeLessThan(2 * allowedGrowth);
});

it("reads or refuses a header with an extreme value at any byte", async () => {
  for (let at = 0; at + 8 <= sample.length; at++) {
    for (const value of extremes) {
      const bytes = Buffer.from(sample);
      bytes.writeBigUInt64LE(value, at);
      await outcome(bytes);
    }
  }
});

it("refuses a header that was cut anywhere", async () => {
  const header = sample.length - 288;
  for (let length = 0; length < header; length++) {
    expect(await outcome(sample.subarray(0, length))).toBe("refused");
  }
});

async function outcome(bytes: Buffer): Promise<"read" | "refused"> {
  const { open, counts } = memoryOpener({ "m.gguf": bytes });
  const before = { ms: performance.now(), bytes: allocated() };
  const result = await readGguf("m.gguf", open).catch((error: unknown) => error);
  expect(allocated() - before.bytes).toBeLessThan(bytes.length + allowedGrowth);
  expect(performance.now() - before.ms).toBeLessThan(allowedMilliseconds);
  expect(counts.closed).toBe(1);
  expect(counts.bytesRead).toBeLessThanOrEqual(bytes.length);
  if (result instanceof Error) return refused(result);
  checkModel(result as GgufModel, bytes.length);
  return "read";
}

function refused(error: Error): "refused" {
  // A RangeError or TypeError would be a bound that was not checked.
  if (!(error instanceof StelliumError)) throw error;
  expect(["GGUF_INVALID", "MODEL_UNSUPPORTED"]).toContain(error.code);
  if (error.code === "GGUF_INVALID") expect(error.message).toMatch(/\(at byte \d+\)$/);
  expect(error.message.length).toBeLessThan(1000);
  return "refused";
}

function checkModel({ tensors, metadata }: GgufModel, size: number): void {
  expect(metadata.size).toBeLessThan(size);
  for (const { name, shape, offset, bytes } of tensors.values()) {
    expect(tensors.get(name)?.offset).toBe(offset);
    expect(shape.length >= 1 && shape.length <= 4 && shape.every((length) => length > 0)).toBe(true);
    expect(bytes > 0 && offset > 0 && offset + bytes <= size).toBe(true);
  }
}

function allocated(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
