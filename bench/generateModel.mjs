import { open, rm, statfs, truncate, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { headerBytes, metadataOf } from "./model/header.mjs";
import { fillRows, tensorBytes } from "./model/rows.mjs";
import { shapeNamed } from "./model/shapes.mjs";
import { tensorsOf, typeIdOf } from "./model/tensors.mjs";
import { fileTypeNamed } from "./model/types.mjs";

export { shapes } from "./model/shapes.mjs";
export { tensorBytes };

/** @typedef {{ shape: string, type: string, seed?: number, layers?: number | undefined }} ModelOptions */

/**
 * @typedef {object} ModelPlan A model file before it is written: its header, and what each tensor is made of.
 * @property {Buffer<ArrayBuffer>} header
 * @property {import("./model/tensors.mjs").TensorSpec[]} tensors
 * @property {number} fileBytes
 * @property {string[]} notes Tensors that could not have the type asked for, one line per type they got.
 */

const chunkBytes = 16 << 20;

/**
 * Says what a model of random weights consists of, without making any. Throws on an unknown shape or type.
 * @param {ModelOptions} options
 * @returns {ModelPlan}
 */
export function planModel({ shape: name, type, seed = 1, layers }) {
  const fileType = fileTypeNamed(type);
  const shape = shapeNamed(name, layers);
  const tensors = tensorsOf(shape, fileType, seed);
  const infos = tensors.map((spec) => ({ ...spec, typeId: typeIdOf(spec) }));
  const header = headerBytes(metadataOf(name, shape, fileType), infos);
  const last = tensors.at(-1);
  const dataBytes = last ? last.offset + last.bytes : 0;
  return { header, tensors, fileBytes: header.length + Math.ceil(dataBytes / 32) * 32, notes: notesOn(tensors, type) };
}

/**
 * Bytes `start` to `end` (exclusive) of the file that the plan describes; nothing else of it is computed.
 * @param {ModelPlan} plan
 * @param {number} start
 * @param {number} end
 * @returns {Buffer<ArrayBuffer>}
 */
export function modelBytes(plan, start, end) {
  const target = Buffer.alloc(end - start);
  fillBytes(plan, start, target);
  return target;
}

/**
 * Writes a GGUF file of random weights. Refuses, with both numbers, where the disk has no room for it.
 * @param {ModelOptions & { path: string, onProgress?: (written: number, total: number) => void }} options
 * @returns {Promise<ModelPlan>}
 */
export async function generateModel({ path, onProgress, ...options }) {
  const plan = planModel(options);
  await checkRoom(path, plan.fileBytes);
  try {
    await writePlan(plan, path, onProgress);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
  return plan;
}

/**
 * Writes the header of such a file, and lets its data be a hole.
 * @param {ModelOptions & { path: string }} options
 * @returns {Promise<ModelPlan>}
 */
export async function writeHeader({ path, ...options }) {
  const plan = planModel(options);
  await writeFile(path, plan.header);
  await truncate(path, plan.fileBytes);
  return plan;
}

/** @param {string} path @param {number} needed */
async function checkRoom(path, needed) {
  const directory = dirname(resolve(path));
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (needed <= free) return;
  throw new Error(
    `${path} needs ${gigabytes(needed)}, and its disk has ${gigabytes(free)} free; choose another or use --layers`,
  );
}

/** @param {number} bytes */
function gigabytes(bytes) {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

/**
 * Fills one buffer while the disk takes the other.
 * @param {ModelPlan} plan
 * @param {string} path
 * @param {((written: number, total: number) => void) | undefined} onProgress
 */
async function writePlan(plan, path, onProgress) {
  const file = await open(path, "w");
  /** @type {Promise<unknown>} */
  let writing = Promise.resolve();
  try {
    for (const [start, chunk] of chunksOf(plan.fileBytes)) {
      fillBytes(plan, start, chunk);
      await writing;
      onProgress?.(start, plan.fileBytes);
      writing = writeAll(file, chunk, start);
    }
    await writing;
  } finally {
    await file.close();
  }
  onProgress?.(plan.fileBytes, plan.fileBytes);
}

/**
 * Two buffers in turn, cut to what is left of the file.
 * @param {number} fileBytes
 * @returns {Generator<[start: number, chunk: Buffer]>}
 */
function* chunksOf(fileBytes) {
  const size = Math.min(chunkBytes, fileBytes);
  const buffers = [Buffer.allocUnsafe(size), Buffer.allocUnsafe(size)];
  for (let start = 0; start < fileBytes; start += size) {
    const buffer = /** @type {Buffer} */ (buffers.reverse()[0]);
    yield [start, buffer.subarray(0, Math.min(size, fileBytes - start))];
  }
}

/** @param {import("node:fs/promises").FileHandle} file @param {Buffer} bytes @param {number} position */
async function writeAll(file, bytes, position) {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/**
 * @param {ModelPlan} plan
 * @param {number} start
 * @param {Buffer} target
 */
function fillBytes({ header, tensors }, start, target) {
  target.fill(0);
  if (start < header.length) target.set(header.subarray(start, start + target.length), 0);
  for (const spec of tensors) fillTensor(spec, start - header.length - spec.offset, target);
}

/**
 * Writes the part of a tensor that falls into `target`, whose first byte is byte `start` of the tensor, or lies before it
 * where `start` is negative.
 * @param {import("./model/tensors.mjs").TensorSpec} spec
 * @param {number} start
 * @param {Buffer} target
 */
function fillTensor(spec, start, target) {
  const from = Math.max(0, start);
  const to = Math.min(spec.bytes, start + target.length);
  if (to <= from) return;
  const first = Math.ceil(from / spec.rowBytes);
  const last = Math.floor(to / spec.rowBytes);
  if (first * spec.rowBytes > from) fillPart(spec, from, Math.min(to, first * spec.rowBytes), target, from - start);
  fillRows(spec, first, last, target, first * spec.rowBytes - start);
  if (last >= first && last * spec.rowBytes < to)
    fillPart(spec, last * spec.rowBytes, to, target, last * spec.rowBytes - start);
}

/**
 * Bytes `from` to `to` of a tensor, which lie within one row.
 * @param {import("./model/tensors.mjs").TensorSpec} spec
 * @param {number} from
 * @param {number} to
 * @param {Buffer} target
 * @param {number} at
 */
function fillPart(spec, from, to, target, at) {
  const row = Math.floor(from / spec.rowBytes);
  const begin = row * spec.rowBytes;
  target.set(tensorBytes(spec, row, row + 1).subarray(from - begin, to - begin), at);
}

/**
 * One line per type that some matrices have and that is not the one asked for.
 * @param {import("./model/tensors.mjs").TensorSpec[]} tensors
 * @param {string} type
 */
function notesOn(tensors, type) {
  const others = tensors.filter((spec) => spec.kind === "matrix" && spec.type !== type);
  return [...new Set(others.map((spec) => spec.type))].map((other) => {
    const parts = others.filter((spec) => spec.type === other).map(({ name }) => name.replace(/^blk\.\d+\./, ""));
    return `${parts.length} matrices are ${other}: ${[...new Set(parts)].join(", ")}`;
  });
}
