import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { allocatePages, wholePages } from "#stellium/native/memory";
import { CachedPages, dropCache, touchedPages } from "#stellium/native/pageCache";
import { nextPage, pageSize, pageStart } from "#stellium/native/pageSize";
import { encodeHeader } from "#stellium/weights/sliceHeader";
import { sliceMap } from "#stellium/weights/window/sliceMap";
import { skipOnWindows, skipUnless } from "../skip.ts";
import { complete, sliceOf } from "../weights/sliceFixture.ts";

const sizes = [4096, 16384, 65536];
const folder = mkdtempSync(join(tmpdir(), "stellium-pages-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("is what the system says", skipOnWindows("getconf"), () => {
  expect(pageSize()).toBe(Number(execFileSync("getconf", ["PAGESIZE"], { encoding: "utf8" })));
});

describe.each(sizes)("pages of %i bytes", (page) => {
  it("are what addresses are rounded to", () => {
    const size = BigInt(page);
    expect([nextPage(0n, page), nextPage(1n, page), nextPage(size, page)]).toEqual([0n, size, size]);
    expect([pageStart(0n, page), pageStart(size - 1n, page), pageStart(size, page)]).toEqual([0n, 0n, size]);
  });

  it("are given as advice only if they are whole", () => {
    const start = BigInt(page) * 7n;
    expect(wholePages(start, 3 * page, page)).toEqual({ start, bytes: 3 * page });
    expect(wholePages(start + 64n, 3 * page, page)).toEqual({ start: start + BigInt(page), bytes: 2 * page });
    expect(wholePages(start + 64n, page, page).bytes).toBe(0);
    expect(wholePages(start + 64n, 10, page).bytes).toBe(0);
  });

  it("are dropped from the cache without a gap between parts that follow on each other", () => {
    const step = 5 * 4096;
    const dropped = new Set<number>();
    for (let offset = 3 * 4096; offset < 40 * 4096; offset += step) {
      const pages = touchedPages(offset, step, page);
      expect([pages.offset % page, pages.bytes % page]).toEqual([0, 0]);
      for (let at = pages.offset; at < pages.offset + pages.bytes; at += page) dropped.add(at / page);
    }
    const last = Math.floor((3 * 4096 + 8 * step - 1) / page);
    expect([...dropped].sort((a, b) => a - b)).toEqual(
      Array.from({ length: last + 1 }, (_, i) => i).filter((i) => i >= Math.floor((3 * 4096) / page)),
    );
    expect(touchedPages(page + 1, 0, page)).toEqual({ offset: page, bytes: 0 });
  });

  it.each([1000, 3 * 2 ** 20 + 5])("begin memory of %i bytes", (bytes) => {
    using memory = allocatePages(bytes, page);
    expect(memory.address % BigInt(page)).toBe(0n);
    memory.view.fill(7);
    expect([memory.view.length, memory.view[0], memory.view[bytes - 1]]).toEqual([bytes, 7, 7]);
  });
});

it("leave slices and windows as they are: blocks start at multiples of 4096", async () => {
  const slice = sliceOf([1], 0);
  const { dataOffset, journalOffset } = encodeHeader(slice.header);
  const { path } = await complete(folder, slice);
  const { blocks } = await sliceMap(path);
  const starts = blocks.flatMap(({ extents, room }) => [room, ...extents.map(({ offset }) => offset)]);
  for (const offset of [journalOffset, dataOffset, ...starts]) expect(offset % 4096).toBe(0);
});

it("are found in the cache by any byte in them", skipUnless("linux"), () => {
  const page = pageSize();
  const path = join(folder, "cached");
  writeFileSync(path, Buffer.alloc(4 * page, 1));
  const descriptor = openSync(path, "r");
  using pages = new CachedPages(descriptor, 4 * page);
  readSync(descriptor, Buffer.alloc(4 * page));
  const offsets = [0, 1, page - 1, page, 2 * page + 5, 4 * page - 1];
  expect(offsets.map((offset) => pages.has(offset))).toEqual(offsets.map(() => true));
  dropCache(descriptor, 1, 4 * page - 2);
  closeSync(descriptor);
});
