import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rename, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { viewNative } from "#stellium/native/memory";
import { allocationBytes, describingContext, Layouts, newTensor } from "#stellium/weights/layout";
import { loadCounter } from "#stellium/weights/loader";
import { type BlockSource, obtainSlice } from "#stellium/weights/obtainSlice";
import { slicePath } from "#stellium/weights/sliceDirectory";
import { realDisk } from "#stellium/weights/sliceDisk";
import { encodeHeader, type SliceHeader } from "#stellium/weights/sliceHeader";
import { layOutSlice } from "#stellium/weights/sliceLayout";
import { readSlices } from "#stellium/weights/sliceReader";
import { checkSlice, filledBlocks, openSlice, verifyBlock } from "#stellium/weights/sliceStore";
import { BlockWeights } from "#stellium/weights/window/blockWeights";
import { sliceMap } from "#stellium/weights/window/sliceMap";
import { skipIf } from "../skip.ts";
import { complete, device, ggml, openWriter, plainBlock, shape, sliceOf } from "./sliceFixture.ts";

const slice = sliceOf([1, 2], 1);
const { cut, header, source } = slice;
const all = filledBlocks(header);
let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-slice-"));
});

async function flipBit(path: string, offset: number): Promise<void> {
  const file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0]! ^= 16;
  await file.write(byte, 0, 1, offset);
  await file.close();
}

/** Where a block's bytes are in the file. */
function placeOf(index: number): number {
  return encodeHeader(header).dataOffset + header.blocks[index]!.offset;
}

/** What a tensor is in memory when it is brought into its layout in one go. */
async function convertedWhole(tensor: SliceHeader["blocks"][number]["tensors"][number], plain: Uint8Array) {
  const layout = new Layouts(ggml, device).forPart(tensor);
  const context = describingContext(ggml, 1);
  const handle = newTensor(ggml, context, tensor, tensor.rows.count);
  const bytes = allocationBytes(ggml, layout.bufferType, handle);
  const buffer = ggml.allocateBuffer(layout.bufferType, bytes)!;
  viewNative(ggml.bufferBase(buffer), bytes).fill(0);
  ggml.placeTensor(buffer, handle, ggml.bufferBase(buffer));
  ggml.setTensor(handle, plain, 0, plain.length);
  const stored = Buffer.from(viewNative(ggml.bufferBase(buffer), bytes));
  ggml.freeBuffer(buffer);
  ggml.free(context);
  return { layout, bytes: stored };
}

describe("a slice", () => {
  it("is written once, and then used", async () => {
    expect(await checkSlice(directory, header)).toMatchObject({ missing: all, reason: "it has not been fetched yet" });
    const { path, written } = await complete(directory, slice);
    expect(written).toEqual(all);
    expect(await checkSlice(directory, header, { verify: true })).toEqual({ path, missing: [], reason: undefined });
    expect(await readdir(directory)).toEqual([path.slice(directory.length + 1)]);
  });

  it("loads into memory as the bytes that the device would have made of the model itself", async () => {
    const { path } = await complete(directory, slice);
    const placement = { pinned: [], windowBytes: 0, cached: false };
    using weights = new BlockWeights(ggml, device, await sliceMap(path), placement, () => false);
    await weights.load(1, new Int32Array(new SharedArrayBuffer(4 * loadCounter.length)));
    const names = new Set<string>();
    for (const [i, block] of header.blocks.entries()) {
      for (const [j, tensor] of block.tensors.entries()) {
        const part = cut.blocks[i]![j]!;
        const plain: Uint8Array[] = [];
        for await (const bytes of readSlices([source], [part])) plain.push(bytes);
        const { layout, bytes } = await convertedWhole(tensor, Buffer.concat(plain));
        const same = bytes.equals(viewNative(ggml.getData(weights.get(tensor.name))!, bytes.length));
        expect(same, `${tensor.name} of ${tensor.type} in ${layout.name}`).toBe(true);
        names.add(layout.name);
      }
    }
    // Old CPUs have the plain layout only.
    const several = header.blocks.some(({ tensors }) => tensors.some(({ layout }) => layout !== "CPU"));
    expect(names.size > 1).toBe(several);
  });

  it("keeps blocks at page borders, and each layout's tensors together", () => {
    for (const { offset, tensors } of header.blocks) {
      expect(offset % 4096).toBe(0);
      const order = tensors.toSorted((a, b) => a.offset - b.offset).map(({ layout }) => layout);
      expect(order).toEqual(order.toSorted());
    }
  });

  it("of nothing is complete at once", async () => {
    const idle = sliceOf([1, 0], 1);
    expect((await complete(directory, idle)).written).toEqual([]);
    expect((await checkSlice(directory, idle.header)).missing).toEqual([]);
  });

  it("that was cut in the middle of a block goes on with that block", async () => {
    const broken = async function* () {
      let bytes = 0;
      for await (const piece of plainBlock(source, cut, all[2]!)) {
        yield piece;
        bytes += piece.length;
        if (bytes > 100_000) throw new Error("the connection broke");
      }
    };
    {
      await using writer = await openWriter(directory, header);
      for (const index of all.slice(0, 2)) await writer.writeBlock(index, plainBlock(source, cut, index));
      await expect(writer.writeBlock(all[2]!, broken())).rejects.toThrow("the connection broke");
      await expect(writer.finish()).rejects.toMatchObject({ code: "SLICE_INVALID" });
    }
    expect((await checkSlice(directory, header)).missing).toEqual(all);
    expect((await complete(directory, slice)).written).toEqual(all.slice(2));
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
  });

  it("has to be sent as long as it is, and the same block may be sent again", async () => {
    await using writer = await openWriter(directory, header);
    const [index] = all as [number];
    const short = async function* () {
      yield new Uint8Array(1000);
    };
    const long = async function* () {
      yield* plainBlock(source, cut, index);
      yield new Uint8Array(1);
    };
    await expect(writer.writeBlock(index, short())).rejects.toThrow(/block 0 ends \d+ bytes too early/);
    await expect(writer.writeBlock(index, long())).rejects.toThrow(/block 0 has more bytes than it should/);
    expect(writer.missing).toEqual(all);
    await writer.writeBlock(index, plainBlock(source, cut, index));
    expect(writer.missing).toEqual(all.slice(1));
    await expect(writer.writeBlock(index, short())).rejects.toThrow("its block 0 is not missing");
    await expect(writer.writeBlock(99, short())).rejects.toThrow("its block 99 is not missing");
  });

  it("with a bit that flipped has that one block fetched again", async () => {
    const { path } = await complete(directory, slice);
    await flipBit(path, placeOf(3) + 5000);
    expect((await checkSlice(directory, header)).missing).toEqual([]);
    const { missing, reason } = await checkSlice(directory, header, { verify: true });
    expect([missing, reason]).toEqual([[3], "1 of its blocks are damaged"]);
    expect([await verifyBlock(path, 2), await verifyBlock(path, 3)]).toEqual([true, false]);
    expect((await complete(directory, slice, { damaged: missing })).written).toEqual([3]);
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
  });

  it("that has lost its end has what is gone fetched again, even if that is cut short, too", async () => {
    const { path } = await complete(directory, slice);
    await truncate(path, placeOf(4) + 100);
    const lost = all.filter((index) => index >= 4);
    expect((await checkSlice(directory, header)).missing).toEqual(lost);
    await (await openWriter(directory, header))[Symbol.asyncDispose]();
    expect((await complete(directory, slice)).written).toEqual(lost);
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
  });

  it("is not believed a record in the journal that is of another block, or damaged", async () => {
    const { path } = await complete(directory, slice);
    const { journalOffset } = encodeHeader(header);
    const bytes = await readFile(path);
    bytes.copyWithin(journalOffset + 64, journalOffset, journalOffset + 64);
    bytes[journalOffset + 2 * 64 + 20]! ^= 1;
    await writeFile(path, bytes);
    expect((await checkSlice(directory, header)).missing).toEqual([1, 2]);
  });

  it.each<[string, (wanted: SliceHeader) => SliceHeader, RegExp]>([
    [
      "for other processors",
      (wanted) => ({ ...wanted, device: { ...wanted.device, features: ["NEON"] } }),
      /laid out for a processor with /,
    ],
    ["by another ggml", (wanted) => ({ ...wanted, device: { ...wanted.device, ggml: "9.9.9" } }), /laid it out, not 9/],
    [
      "in other layouts",
      (wanted) => {
        const changed = structuredClone(wanted);
        changed.blocks[0]!.tensors[1]!.layout = "CPU_OTHER";
        return changed;
      },
      /laid out otherwise/,
    ],
  ])("that was made %s is stale, and makes room for its successor", async (_, change, reason) => {
    const stale = await complete(directory, slice);
    const wanted = change(header);
    const found = await checkSlice(directory, wanted);
    expect(found).toMatchObject({ path: stale.path, missing: all });
    expect(found.reason).toMatch(reason);
    await using writer = await openWriter(directory, wanted);
    expect(writer.missing).toEqual(all);
    expect((await readdir(directory)).length).toBe(1);
  });

  it("of another model or share is not taken for it, whatever its name", async () => {
    const { path } = await complete(directory, slice);
    const otherModel = { ...header, model: { ...header.model, hash: "cd".repeat(32) } };
    await rename(path, slicePath(directory, otherModel));
    expect((await checkSlice(directory, otherModel)).reason).toBe("it is of another model");
    const otherShare = sliceOf([1, 2], 0).header;
    await rename(slicePath(directory, otherModel), slicePath(directory, otherShare));
    expect((await checkSlice(directory, otherShare)).reason).toBe("it is of another share");
  });
});

describe("a full disk", () => {
  it("is noticed before anything is written", async () => {
    const disk = { ...realDisk, usable: async () => 1000 };
    const error = await openWriter(directory, header, { disk }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "DISK_FULL", values: { available: "0.001 MB" } });
    expect(await readdir(directory)).toEqual([]);
  });

  it("is said on the way, and leaves what can be gone on with", async () => {
    let left = 700_000;
    const disk = {
      ...realDisk,
      write: async (...[file, bytes, offset]: Parameters<typeof realDisk.write>) => {
        left -= bytes.length;
        if (left < 0) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
        await realDisk.write(file, bytes, offset);
      },
    };
    await expect(complete(directory, slice, { disk })).rejects.toMatchObject({ code: "DISK_FULL" });
    const { missing } = await checkSlice(directory, header);
    expect(missing).toEqual(all);
    const { written } = await complete(directory, slice);
    expect(written.length).toBeLessThan(all.length);
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
  });
});

/** A disk of 1.5 MB, where this user may make one. */
const tinyDisk = await mkdtemp(join(tmpdir(), "stellium-disk-"));
const mounted = await promisify(execFile)("mount", ["-t", "tmpfs", "-o", "size=1500k", "tmpfs", tinyDisk]).then(
  () => true,
  () => false,
);

afterAll(async () => {
  if (mounted) await promisify(execFile)("umount", [tinyDisk]);
});

describe("a disk that is too small", skipIf(!mounted, "this user may not mount a tmpfs"), () => {
  it("is noticed by its real size, and by the system's refusal", async () => {
    await expect(complete(tinyDisk, slice)).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(await readdir(tinyDisk)).toEqual([]);
    const disk = { ...realDisk, usable: async () => Number.POSITIVE_INFINITY };
    await expect(complete(tinyDisk, slice, { disk })).rejects.toMatchObject({ code: "DISK_FULL" });
    const [left] = await readdir(tinyDisk);
    expect(left).toMatch(/\.0-.*\.part$/);
    expect((await checkSlice(tinyDisk, header)).missing).toEqual(all);
  });
});

describe("two writers of one slice", () => {
  it("do not disturb each other; the last one's file stays", async () => {
    const [first, second] = await Promise.all([openWriter(directory, header), openWriter(directory, header)]);
    for (const index of all) {
      await Promise.all([first, second].map((writer) => writer.writeBlock(index, plainBlock(source, cut, index))));
    }
    await Promise.all([first.finish(), second.finish()]);
    for (const writer of [first, second]) await writer[Symbol.asyncDispose]();
    expect(await readdir(directory)).toHaveLength(1);
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
  });

  it("may be processes of their own", async () => {
    const input = await mkdtemp(join(tmpdir(), "stellium-blocks-"));
    await writeFile(join(input, "header.json"), JSON.stringify(header));
    for (const index of all) await writeFile(join(input, `${index}`), plainBlock(source, cut, index));
    const dist = new URL("../../dist/", import.meta.url).href;
    const script = `
      import { createReadStream, readFileSync } from "node:fs";
      const { openGgml, cpuDevice } = await import("${dist}native/ggml.js");
      const { SliceWriter } = await import("${dist}weights/sliceWriter.js");
      const ggml = openGgml();
      const header = JSON.parse(readFileSync(${JSON.stringify(join(input, "header.json"))}));
      const options = { ggml, device: cpuDevice(ggml), directory: ${JSON.stringify(directory)}, header };
      const writer = await SliceWriter.open(options);
      for (const i of writer.missing) await writer.writeBlock(i, createReadStream(${JSON.stringify(input)} + "/" + i));
      await writer.finish();
      await writer[Symbol.asyncDispose]();`;
    const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
    await Promise.all([run(), run(), run()]);
    expect((await checkSlice(directory, header, { verify: true })).missing).toEqual([]);
    expect(await readdir(directory)).toHaveLength(1);
  });

  it("leave a slice where it is that another one has just finished, and nothing beside it", async () => {
    const { path } = await complete(directory, { cut, header, source });
    const late = await openWriter(directory, header);
    expect((await checkSlice(directory, header)).reason).toBeUndefined();
    await late[Symbol.asyncDispose]();
    expect(await readdir(directory)).toEqual([basename(path)]);
  });

  it("may want the same slice at the same time: each has it where it is said to be", async () => {
    const blocks: BlockSource = { begin: async () => {}, block: (index) => plainBlock(source, cut, index) };
    const obtain = async (delay: number) => {
      await new Promise((resolve) => setTimeout(resolve, delay));
      await using hold = await obtainSlice({ ggml, device, directory, header, source: blocks });
      await (await openSlice(hold.path))[Symbol.asyncDispose]();
    };
    for (let round = 0; round < 5; round++) {
      await Promise.all([0, 1, 3, 7, 15].map(obtain));
      for (const name of await readdir(directory)) await rm(join(directory, name));
    }
  });

  it("leave a slice to others when they are killed, or stop for long", async () => {
    const writer = await openWriter(directory, header);
    await writer.writeBlock(all[0]!, plainBlock(source, cut, all[0]!));
    const [name] = (await readdir(directory)) as [string];
    const again = await openWriter(directory, header);
    expect(again.missing).toEqual(all);
    await again[Symbol.asyncDispose]();
    // A process that does not exist.
    await rename(join(directory, name), join(directory, name.replace(/\.\d+-/, ".2147483646-")));
    const taken = await openWriter(directory, header);
    expect(taken.missing).toEqual(all.slice(1));
    const [stopped] = (await readdir(directory)) as [string];
    const longAgo = new Date(Date.now() - 11 * 60_000);
    await utimes(join(directory, stopped), longAgo, longAgo);
    const last = await openWriter(directory, header);
    expect(last.missing).toEqual(all.slice(1));
    for (const open of [writer, taken, last]) await open[Symbol.asyncDispose]();
  });
});

describe("what a device lays out", () => {
  it("is the same each time, and names what it depends on", () => {
    expect(layOutSlice(cut.content, ggml, device)).toEqual(header);
    expect(header.device.ggml).toBe(ggml.version());
    expect(header.blocks.length).toBe(shape.layers * 2 + 2);
  });
});
