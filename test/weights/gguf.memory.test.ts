import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readGguf } from "#stellium/weights/gguf/reader";
import { buildGguf, memoryOpener, type valueType } from "./ggufBuilder.ts";

type Case = [what: string, of: keyof typeof valueType, element: Buffer, accepted: number, refused: number];

/** The smallest element of each type that takes more memory than bytes in the file. */
const cases: Case[] = [
  ["empty strings", "string", Buffer.alloc(8), 1e6, 4e6],
  ["short strings", "string", Buffer.from("\x03\0\0\0\0\0\0\0abc"), 1e6, 4e6],
  ["booleans", "bool", Buffer.alloc(1), 4e6, 8e6],
  ["empty arrays", "array", Buffer.alloc(12), 50_000, 200_000],
];

/** A file with one array of `count` times the same element. */
function arrayFile(of: keyof typeof valueType, element: Buffer, count: number): Buffer {
  const header = buildGguf({ entries: [["k", { type: "array", of, value: [] }]] });
  header.writeBigUInt64LE(BigInt(count), header.length - 8);
  return Buffer.concat([header, Buffer.alloc(count * element.length, element)]);
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "stellium-gguf-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("a file of objects larger in memory than on disk", () => {
  it.each(cases)("is refused in time with too many %s", async (_, of, element, __, count) => {
    const bytes = arrayFile(of, element, count);
    const start = performance.now();
    await expect(readGguf("m", memoryOpener({ m: bytes }).open)).rejects.toMatchObject({
      code: "GGUF_INVALID",
      message: expect.stringContaining("more memory than any real model's"),
    });
    expect(performance.now() - start).toBeLessThan(3000);
  });

  it.each(cases)("grows the process by less than its size and 64 MB with as many %s as it may", async (...given) => {
    const [, of, element, count] = given;
    const bytes = arrayFile(of, element, count);
    const path = join(folder, "m.gguf");
    await writeFile(path, bytes);
    expect(await growthOf(path)).toBeLessThan(bytes.length + 64 * 2 ** 20);
  });
});

/** How many bytes a fresh process grows by when it reads the file, garbage and all. */
async function growthOf(path: string): Promise<number> {
  const reader = pathToFileURL(join(import.meta.dirname, "../../dist/weights/gguf/reader.js"));
  const script = `
    const { readGguf } = await import(${JSON.stringify(reader)});
    const before = process.resourceUsage().maxRSS;
    await readGguf(${JSON.stringify(path)});
    console.log((process.resourceUsage().maxRSS - before) * 1024);`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  return Number(stdout);
}
