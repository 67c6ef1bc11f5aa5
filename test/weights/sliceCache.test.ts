import { copyFile, mkdir, mkdtemp, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { cache, parseAge } from "#stellium/cli/cache";
import { readGguf } from "#stellium/weights/gguf/reader";
import { cacheDirectory, sliceDirectory } from "#stellium/weights/sliceDirectory";
import { modelHash } from "#stellium/weights/sliceIdentity";
import { complete, openWriter, plainBlock, sliceOf } from "./sliceFixture.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const plain = { action: undefined, cacheSize: undefined, olderThan: undefined, all: false, json: false };
const first = sliceOf([1, 2], 0);
const second = sliceOf([1, 2], 1);
let cacheDir = "";

beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "stellium-cache-"));
});

afterEach(() => vi.restoreAllMocks());

async function said(values: Partial<Parameters<typeof cache>[0]>): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await cache({ ...plain, cacheDir, ...values });
    return write.mock.calls.map(([text]) => text).join("");
  } finally {
    write.mockRestore();
  }
}

describe("stellium cache", () => {
  it("lists slices, whole, half and broken ones", async () => {
    const directory = sliceDirectory(cacheDir);
    expect(await said({})).toBe(`no slices in ${cacheDir}\n`);
    const missing = { cacheDir: join(cacheDir, "not", "there"), json: true };
    expect(JSON.parse(await said(missing))).toMatchObject({ bytes: 0, slices: [], limit_bytes: expect.any(Number) });
    expect(JSON.parse(await said({ ...missing, cacheSize: 5e9 })).limit_bytes).toBe(5e9);
    await complete(directory, first);
    const writer = await openWriter(directory, second.header);
    await writer.writeBlock(0, plainBlock(second.source, second.cut, 0));
    await writeFile(join(directory, "broken.slice"), "\u001b]0;owned\u0007");
    await writeFile(join(directory, "unrelated.txt"), "");
    const text = await said({});
    expect(text).toMatch(/^a model +KV heads 0-1, FFN 0-511, vocabulary 0-319 +[\d.]+ MB {2}complete +used \d{4}-/m);
    expect(text).toMatch(/^a model +KV heads 2-3, FFN 512-1535 .* being written/m);
    expect(text).toMatch(/^broken\.slice .* unusable: it is no slice/m);
    expect(text).toMatch(/^3 slices, [\d.]+ MB of at most [\d.]+ [kMGT]B, in /m);
    await writer[Symbol.asyncDispose]();
    expect(await said({})).toMatch(/KV heads 2-3, FFN 512-1535 .* 1 of 9 blocks/);
    const { slices } = JSON.parse(await said({ json: true }));
    expect(slices).toHaveLength(3);
    expect(slices).toContainEqual(expect.objectContaining({ complete: true, model: "a model", blocks: 10 }));
  });

  it("prunes what is of no use, what is old, or everything, but nothing that is being written", async () => {
    const directory = sliceDirectory(cacheDir);
    const { path } = await complete(directory, first);
    await writeFile(join(directory, "broken.slice"), "x");
    expect(await said({ action: "prune" })).toMatch(/^removed 1 slice, /);
    expect(await said({ action: "prune", olderThan: "30d" })).toMatch(/^removed 0 slices, /);
    const longAgo = new Date(Date.now() - 31 * 86_400_000);
    await utimes(path, longAgo, longAgo);
    expect(await said({ action: "prune", olderThan: "30d" })).toMatch(/^removed 1 slice, /);
    const writer = await openWriter(directory, second.header);
    await complete(directory, first);
    expect(JSON.parse(await said({ action: "prune", all: true, json: true })).removed.slices).toHaveLength(1);
    expect(await readdir(directory)).toHaveLength(1);
    await writer[Symbol.asyncDispose]();
    await said({ action: "prune" });
    expect(await readdir(directory)).toEqual([]);
  });

  it("knows what is kept of models behind URLs, and of networks", async () => {
    const [heads, links] = [join(cacheDir, "heads"), join(cacheDir, "links")];
    const [whole, broken, half] = ["ab", "cd", "ef"].map((byte) => join(heads, byte.repeat(16)));
    const written = `${half}.${process.pid}-${Date.now().toString(36)}-01234567.part`;
    const left = `${half}.0-${Date.now().toString(36)}-01234567.part`;
    for (const folder of [whole!, broken!, written, left, links]) await mkdir(folder, { recursive: true });
    await copyFile(demo, join(whole!, "model.gguf"));
    await writeFile(join(broken!, "model.gguf"), "no model");
    await writeFile(join(links, "a network.json"), "{}");
    const text = await said({});
    expect(text).toMatch(/^stellium-shakespeare-5m +vocabulary and embedding +5\.\d+ MB {2}complete +used \d{4}-/m);
    expect(text).toMatch(/^cdcd\w+ +vocabulary and embedding .* unusable: it does not start with "GGUF"/m);
    expect(text).toMatch(/^efef\S+ +vocabulary and embedding .* being written/m);
    expect(text).toMatch(/^0 slices, 4 vocabularies, 1 network, [\d.]+ MB of at most [\d.]+ [kMGT]B, in /m);
    expect(JSON.parse(await said({ json: true }))).toMatchObject({
      heads: expect.arrayContaining([expect.objectContaining({ path: whole, complete: true })]),
      networks: [expect.objectContaining({ path: join(links, "a network.json") })],
    });
    expect(await said({ action: "prune" })).toMatch(/^removed 0 slices, 2 vocabularies, /);
    expect((await readdir(heads)).map((name) => join(heads, name)).sort()).toEqual([whole, written].sort());
    expect(await said({ action: "prune", all: true })).toMatch(/^removed 0 slices, 1 vocabulary, 1 network, /);
    expect(await readdir(heads)).toEqual([basename(written)]);
  });

  it("refuses what it does not know", async () => {
    for (const values of [{ action: "purge" }, { all: true }, { action: "prune", olderThan: "soon" }]) {
      await expect(said(values)).rejects.toMatchObject({ code: "BAD_USAGE" });
    }
    expect(["45s", "90m", "12h", "1.5 d", "2W"].map(parseAge)).toEqual([
      45e3, 5400e3, 43_200e3, 129_600e3, 1_209_600e3,
    ]);
  });
});

describe("the cache directory", () => {
  it("is where each system keeps such things", () => {
    expect(cacheDirectory({ STELLIUM_CACHE_DIR: "/own", XDG_CACHE_HOME: "/xdg" }, "linux")).toBe("/own");
    expect(cacheDirectory({ XDG_CACHE_HOME: "/xdg" }, "linux")).toBe(join("/xdg", "stellium"));
    expect(cacheDirectory({ XDG_CACHE_HOME: "relative" }, "linux")).toBe(join(homedir(), ".cache", "stellium"));
    expect(cacheDirectory({}, "darwin")).toBe(join(homedir(), "Library", "Caches", "stellium"));
    expect(cacheDirectory({ LOCALAPPDATA: "/local" }, "win32")).toBe(join("/local", "stellium"));
  });
});

describe("a model's hash", () => {
  it("is that of a copy, and not of a file with another weight or other metadata", async () => {
    const bytes = await readFile(demo);
    const model = await readGguf(demo);
    const hash = await modelHash(model);
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    const hashOf = async (change: (copy: Buffer) => void) => {
      const copy = Buffer.from(bytes);
      change(copy);
      const path = join(cacheDir, "copy.gguf");
      await writeFile(path, copy);
      return modelHash(await readGguf(path));
    };
    const tensor = model.tensors.get("blk.1.ffn_up.weight")!;
    expect(await hashOf(() => {})).toBe(hash);
    expect(
      await hashOf((copy) =>
        copy.writeUInt8(copy[tensor.offset + tensor.bytes / 2]! ^ 1, tensor.offset + tensor.bytes / 2),
      ),
    ).not.toBe(hash);
    expect(await hashOf((copy) => copy.write("X", copy.indexOf("shakespeare")))).not.toBe(hash);
  });
});
