import { mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allocatePages } from "../../src/native/memory.ts";
import { dropCache } from "../../src/native/pageCache.ts";
import { directMargin, WeightFile } from "../../src/weights/weightFile.ts";
import { skipUnless } from "../skip.ts";

const bytes = Uint8Array.from({ length: 300_001 }, (_, at) => (at * 31 + (at >> 8)) % 256);
/** Files in memory are always in the system's cache. */
const memoryFileSystem = 0x01021994;

describe("a file that weights are loaded from", () => {
  let folder: string;
  let path: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    path = join(folder, "weights");
    writeFileSync(path, bytes);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  const parts = [
    [0, 4096],
    [1, 4095],
    [4095, 2],
    [32, 200_000],
    [8192, 4096],
    [299_000, 1001],
    [300_000, 1],
  ] as const;

  it.each(parts)("gives what lies at %i, %i bytes, in all ways", async (offset, count) => {
    using file = new WeightFile(path, true);
    using memory = allocatePages(count + directMargin);
    const wanted = bytes.subarray(offset, offset + count);
    const direct = await file.readDirectly(offset, count, memory.view);
    if (direct !== undefined) expect(Buffer.compare(direct, wanted)).toBe(0);
    const target = new Uint8Array(count);
    await file.read(offset, target);
    expect(Buffer.compare(target, wanted)).toBe(0);
    const lead = offset % 4096;
    const pages = memory.view.subarray(0, Math.ceil((lead + count) / 4096) * 4096);
    for (const cached of [true, false]) {
      using again = new WeightFile(path, cached);
      pages.fill(0);
      again.readPages(offset - lead, pages, lead + count);
      expect(Buffer.compare(pages.subarray(lead, lead + count), wanted)).toBe(0);
    }
  });

  it("says where it ends, in all ways", async () => {
    using file = new WeightFile(path, true);
    using memory = allocatePages(8192 + directMargin);
    for (const cached of [true, false]) {
      using again = new WeightFile(path, cached);
      expect(() => again.readPages(299_008, memory.view, 2000)).toThrow(/it ends at byte 300001/);
    }
    await expect(file.read(299_000, new Uint8Array(2000))).rejects.toThrow("it ends at byte 300001");
    if (file.isDirect) {
      await expect(file.readDirectly(303_104, 10, memory.view)).rejects.toThrow("it ends at byte 303104");
    }
  });

  it("refuses one that is not there", () => {
    const open = () => new WeightFile(join(folder, "missing"), true);
    expect(open).toThrow(expect.objectContaining({ code: "FILE_UNREADABLE" }));
  });

  it("knows what the system's cache has of it", skipUnless("linux"), async () => {
    using file = new WeightFile(path, true);
    const writer = await open(path, "r+");
    await writer.sync();
    dropCache(writer.fd, 0, 0);
    await writer.close();
    expect(file.isCached(262_200)).toBe(statfsSync(folder).type === memoryFileSystem);
    await file.read(0, new Uint8Array(bytes.length));
    expect(file.isCached(262_200)).toBe(true);
    using uncached = new WeightFile(path, false);
    await uncached.read(0, new Uint8Array(bytes.length));
    expect(file.isCached(262_200)).toBe(statfsSync(folder).type === memoryFileSystem);
  });
});
