import { tensorTypes } from "../../dist/native/tensorTypes.js";
import { isOneBit, oneBitBlocks } from "./oneBit.mjs";
import { quantize } from "./quantize.mjs";
import { fillNormal, generator } from "./random.mjs";

/** @typedef {import("./tensors.mjs").TensorSpec} TensorSpec */

/** Random values quantized once per seed, type and row length; every row of every matrix is cut from them. */
const poolElements = 2 ** 18;

/** @type {Map<string, Uint8Array>} */
const pools = new Map();

/**
 * Bytes of the rows `rowStart` to `rowEnd` (exclusive): the same for the same seed, tensor and rows, whatever was asked before.
 * @param {TensorSpec} spec
 * @param {number} rowStart
 * @param {number} rowEnd
 * @returns {Uint8Array}
 */
export function tensorBytes(spec, rowStart, rowEnd) {
  const target = Buffer.allocUnsafe((rowEnd - rowStart) * spec.rowBytes);
  fillRows(spec, rowStart, rowEnd, target, 0);
  return target;
}

/**
 * Writes what `tensorBytes` returns into `target` at `at`.
 * @param {TensorSpec} spec
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
export function fillRows(spec, rowStart, rowEnd, target, at) {
  if (rowEnd <= rowStart) return;
  if (spec.kind !== "matrix") return void target.set(vectorBytes(spec), at);
  const pool = Buffer.from(poolFor(spec).buffer);
  for (const segment of segmentsOf(spec, pool.length)) fillSegment(segment, pool, spec, rowStart, rowEnd, target, at);
}

/**
 * @param {Segment} segment
 * @param {Buffer} pool
 * @param {TensorSpec} spec
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
function fillSegment({ start, bytes, base, stride, places, blockBytes }, pool, spec, rowStart, rowEnd, target, at) {
  let to = at + start;
  for (let row = rowStart; row < rowEnd; row++, to += spec.rowBytes) {
    const from = ((base + row * stride) % places) * blockBytes;
    pool.copy(target, to, from, from + bytes);
  }
}

/**
 * @typedef {object} Segment A run of blocks of every row of a tensor. Row r takes it from place (base + r * stride) mod places
 * of the pool.
 * @property {number} start Byte in the row.
 * @property {number} bytes
 * @property {number} base
 * @property {number} stride
 * @property {number} places
 * @property {number} blockBytes
 */

/**
 * Two segments per row, whose numbers of places have no common divisor: no row repeats in any tensor of a real size.
 * @param {TensorSpec} spec
 * @param {number} poolBytes
 * @returns {Segment[]}
 */
function segmentsOf(spec, poolBytes) {
  const { blockBytes } = tensorTypes[spec.type];
  const blocks = spec.rowBytes / blockBytes;
  const half = blocks >> 1;
  const places = poolBytes / blockBytes - (blocks - half) + 1;
  const second = segment(spec, half * blockBytes, (blocks - half) * blockBytes, places, blockBytes);
  return half ? [segment(spec, 0, half * blockBytes, places - 1, blockBytes), second] : [second];
}

/**
 * @param {TensorSpec} spec
 * @param {number} start
 * @param {number} bytes
 * @param {number} places
 * @param {number} blockBytes
 * @returns {Segment}
 */
function segment(spec, start, bytes, places, blockBytes) {
  const random = generator(`${spec.seed}/${spec.name}/${start}`);
  const base = random() % places;
  let stride = 1 + (random() % (places - 1));
  while (commonDivisor(stride, places) !== 1) stride = 1 + (stride % (places - 1));
  return { start, bytes, base, stride, places, blockBytes };
}

/** @param {number} a @param {number} b @returns {number} */
function commonDivisor(a, b) {
  return b ? commonDivisor(b, a % b) : a;
}

/** @param {TensorSpec} spec */
function poolFor({ seed, type, shape: [rowLength = 1] }) {
  const key = `${seed}/${type}/${rowLength}`;
  const pool = pools.get(key) ?? randomPool(type, rowLength, generator(key));
  pools.set(key, pool);
  return pool;
}

/** @param {TensorSpec["type"]} type @param {number} rowLength @param {() => number} random */
function randomPool(type, rowLength, random) {
  const rows = Math.ceil(poolElements / rowLength);
  const deviation = 1 / Math.sqrt(rowLength);
  if (isOneBit(type)) return oneBitBlocks(type, (rows * rowLength) / 256, random, deviation);
  const values = new Float32Array(rows * rowLength);
  fillNormal(values, random, deviation);
  return quantize(type, values, rowLength);
}

/** @param {TensorSpec} spec @returns {Uint8Array} */
function vectorBytes(spec) {
  const values = spec.kind === "ropeFactors" ? ropeFactors(spec) : new Float32Array(spec.shape[0] ?? 0);
  const random = generator(`${spec.seed}/${spec.name}`);
  if (spec.kind === "norm") fillNormal(values, random, 0.1, normMean(spec));
  if (spec.kind === "bias") fillNormal(values, random, 0.3);
  if (spec.kind === "factors") fillNormal(values, random, 0.3, 2);
  return new Uint8Array(values.buffer);
}

/**
 * Attention so sharp that the next token depends on which few tokens it looks at, blocks that matter beside the embedding,
 * and logits a few units apart: without that, greedy tokens of random weights repeat themselves.
 * @param {TensorSpec} spec
 */
function normMean({ name, sharpness }) {
  if (name === "output_norm.weight") return 3;
  if (name.includes("post_")) return 2;
  return name.includes("attn_") ? sharpness : 1;
}

/**
 * What each frequency is divided by: 1 for the fast ones, `factor` for the slow ones, a smooth change between (Llama 3.1).
 * @param {TensorSpec} spec
 */
function ropeFactors({ shape: [length = 0], rope }) {
  if (!rope) throw new Error("rope factors need a rope scaling");
  return Float32Array.from({ length }, (_, index) => {
    const wavelength = 2 * Math.PI * rope.base ** (index / length);
    const smooth = (rope.originalContext / wavelength - 1) / 3;
    return 1 / ((1 - clamp(smooth)) / rope.factor + clamp(smooth));
  });
}

/** @param {number} value */
function clamp(value) {
  return Math.min(1, Math.max(0, value));
}
