import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CacheLimit } from "#stellium/cluster/cacheLimit";
import { Unheld } from "#stellium/weights/hold";
import { partialPath, sliceDirectory } from "#stellium/weights/sliceDirectory";
import { realDisk } from "#stellium/weights/sliceDisk";
import { listSlices } from "#stellium/weights/sliceList";
import { checkSlice } from "#stellium/weights/sliceStore";
import { skipIf } from "../skip.ts";
import { obtainTiny, tinyBytes, tinyHeader } from "./rotation.mjs";

const program = new URL("rotation.mjs", import.meta.url);
const locks = skipIf(process.platform === "win32", "Windows has no locks that tell which slices are in use");
let cacheDir = "";
let slices = "";

beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "stellium-limit-"));
  slices = sliceDirectory(cacheDir);
});

afterEach(() => rm(cacheDir, { recursive: true }));

/** Models whose slices lie in the cache. */
async function models(): Promise<string[]> {
  const listed = await listSlices(slices);
  return listed.map(({ content }) => ("model" in content ? content.model.name : "broken")).sort();
}

/** Has a slice that was last used so many seconds ago. */
async function used(model: number, secondsAgo: number, limit: number): Promise<void> {
  const hold = await obtainTiny(cacheDir, model, limit);
  await hold[Symbol.asyncDispose]();
  const then = Date.now() / 1000 - secondsAgo;
  utimesSync(hold.path, then, then);
}

describe("a cache with a limit", () => {
  it("removes what was used least recently, and never more than has to go", async () => {
    const limit = 3.5 * tinyBytes;
    for (const [model, secondsAgo] of [
      [1, 30],
      [2, 90],
      [3, 60],
    ] as const)
      await used(model, secondsAgo, limit);
    await used(4, 0, limit);
    expect(await models()).toEqual(["model 1", "model 3", "model 4"]);
    const { limitBytes, usedBytes } = await new CacheLimit(cacheDir, limit).use();
    expect(limitBytes).toBe(limit);
    expect(usedBytes).toBe(readdirSync(slices).reduce((sum, name) => sum + statSync(join(slices, name)).size, 0));
    // A slice that is there needs no room.
    await used(3, 0, limit);
    expect(await models()).toEqual(["model 1", "model 3", "model 4"]);
  });

  it("counts half a slice with all its bytes, and removes it unless it is being written", async () => {
    mkdirSync(slices);
    const left = partialPath(slices, "0".repeat(33), 0);
    const written = partialPath(slices, "1".repeat(33));
    for (const path of [left, written]) writeFileSync(path, "");
    for (const path of [left, written]) await import("node:fs/promises").then(({ truncate }) => truncate(path, 1e6));
    expect((await new CacheLimit(cacheDir, 1e9).use()).usedBytes).toBe(2e6);
    await used(1, 0, 2.5e6);
    expect(readdirSync(slices).filter((name) => name.endsWith(".part"))).toEqual([basename(written)]);
    await expect(obtainTiny(cacheDir, 2, 1.5e6)).rejects.toMatchObject({ code: "CACHE_FULL" });
  });

  it("counts a slice that gets its name while it is counted", async () => {
    mkdirSync(slices);
    const names = [partialPath(slices, "0".repeat(33)), join(slices, `${"0".repeat(33)}.slice`)];
    writeFileSync(names[0]!, new Uint8Array(1000));
    let counting = true;
    const renaming = (async () => {
      for (let i = 0; counting; i++) {
        await rename(names[i % 2]!, names[(i + 1) % 2]!);
        await setTimeout(1);
      }
    })();
    const counted = new Set<number>();
    for (let i = 0; i < 30; i++) counted.add((await new CacheLimit(cacheDir, 1e9).use()).usedBytes);
    counting = false;
    await renaming;
    expect([...counted]).toEqual([1000]);
  });

  it("does not take for removable what another process has taken over meanwhile", async () => {
    expect(await Unheld.at(join(cacheDir, "gone.part"))).toBeUndefined();
  });

  it("refuses a slice that does not fit alone, before anything is asked for, written or removed", async () => {
    await used(1, 0, 1e9);
    const told: { asked?: number } = {};
    await expect(obtainTiny(cacheDir, 2, tinyBytes - 8192, told)).rejects.toMatchObject({
      code: "CACHE_FULL",
      message: expect.stringMatching(/it needs 1(\.\d+)? MB, and of at most 1 MB .* 0 MB are in use/),
      hint: expect.stringContaining("--cache-size"),
    });
    expect(told.asked).toBeUndefined();
    expect(await models()).toEqual(["model 1"]);
    expect(readdirSync(slices)).toHaveLength(1);
  });

  it("leaves models that were fetched by name, vocabularies in use, and what it does not know", async () => {
    const [urls, head] = [join(cacheDir, "urls", "ab"), join(cacheDir, "heads", "ab".repeat(16))];
    for (const folder of [urls, head, slices]) mkdirSync(folder, { recursive: true });
    for (const path of [join(urls, "model.gguf"), join(head, "model.gguf"), join(slices, "mine.txt")]) {
      writeFileSync(path, new Uint8Array(5e5));
      utimesSync(path, 1, 1);
    }
    utimesSync(head, 1, 1);
    await used(1, 0, 1.2 * tinyBytes);
    expect(readdirSync(join(cacheDir, "heads"))).toEqual([]);
    expect(readdirSync(urls)).toEqual(["model.gguf"]);
    expect(readdirSync(slices)).toContain("mine.txt");
  });

  it("may take three quarters of what is free and what it has, unless told otherwise", async () => {
    const disk = { ...realDisk, usable: async () => 4e6 };
    const hold = await obtainTiny(cacheDir, 1, undefined, { disk });
    await hold[Symbol.asyncDispose]();
    const { limitBytes } = await new CacheLimit(cacheDir, undefined, disk).use();
    expect(limitBytes).toBeGreaterThan(3.5e6);
    expect(limitBytes).toBeLessThan(0.75 * (4e6 + 1.1 * tinyBytes));
    const small = { ...realDisk, usable: async () => 2e5 };
    await expect(obtainTiny(cacheDir, 2, undefined, { disk: small })).rejects.toMatchObject({ code: "CACHE_FULL" });
    // Allowed more than there is: what is there makes room as far as the disk needs it.
    await expect(obtainTiny(cacheDir, 2, 1e9, { disk: small })).rejects.toMatchObject({ code: "DISK_FULL" });
  });
});

describe("processes that share a cache with a limit", () => {
  const children = new Set<ChildProcess>();

  function rotate(limit: number, first: number): ChildProcess {
    const child = fork(program, [cacheDir, String(limit), String(first)]);
    children.add(child);
    return child;
  }

  afterEach(async () => {
    for (const child of children) {
      const gone = child.exitCode !== null || child.signalCode !== null ? undefined : once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    }
    children.clear();
  });

  it("keep it together, and take no slice away that another one uses", locks, async () => {
    const limit = 5.2 * tinyBytes;
    const mine = await obtainTiny(cacheDir, 9, limit);
    utimesSync(mine.path, 1, 1);
    const rotating = [0, 3].map((first) => rotate(limit, first));
    const most: number[] = [];
    for (let round = 0; round < 12; round++) {
      for (const child of rotating) await once(child, "message");
      most.push((await new CacheLimit(cacheDir, limit).use()).usedBytes);
    }
    expect(Math.max(...most)).toBeLessThanOrEqual(limit);
    expect(statSync(mine.path).ino).toBeDefined();
    expect((await checkSlice(slices, tinyHeader(9), { verify: true })).reason).toBeUndefined();
    await mine[Symbol.asyncDispose]();
    while (readdirSync(slices).includes(basename(mine.path))) await once(rotating[0]!, "message");
  });

  it("leave a sound cache wherever they are killed", locks, async () => {
    const limit = 2.2 * tinyBytes;
    for (let kill = 0; kill < 6; kill++) {
      const child = rotate(limit, kill);
      await once(child, "message");
      if (kill % 2 === 1) await once(child, "message");
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
      for (const { content, path } of await listSlices(slices)) {
        if (!path.endsWith(".slice")) continue;
        const model = Number("model" in content ? content.model.name.slice(6) : Number.NaN);
        expect((await checkSlice(slices, tinyHeader(model), { verify: true })).reason).toBeUndefined();
      }
    }
    await used(9, 0, limit);
    expect((await new CacheLimit(cacheDir, limit).use()).usedBytes).toBeLessThanOrEqual(limit);
  });
});

it("removes nothing of a folder that cannot be locked", async () => {
  mkdirSync(join(cacheDir, "lock"), { recursive: true });
  await expect(obtainTiny(cacheDir, 1, 1e9)).rejects.toMatchObject({ code: "CACHE_UNWRITABLE" });
  rmSync(join(cacheDir, "lock"), { recursive: true });
});
