import { tensorTypes } from "../../dist/native/tensorTypes.js";
import { isOneBit, oneBitBlocks } from "./oneBit.mjs";
import { quantize } from "./quantize.mjs";
import { fillNormal, generator } from "./random.mjs";
import { channelLength } from "./routing.mjs";

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
  if (spec.kind !== "matrix") return fillFloats(spec, rowStart, rowEnd, target, at);
  const pool = Buffer.from(poolFor(spec).buffer);
  const { firstRow } = originOf(spec);
  for (const segment of segmentsOf(spec, pool.length))
    fillSegment(segment, pool, spec.rowBytes, firstRow + rowStart, firstRow + rowEnd, target, at);
  if (spec.channel) fillChannel(spec, spec.channel, rowStart, rowEnd, target, at);
  if (spec.silent) silence(spec, spec.silent, rowStart, rowEnd, target, at);
}

/** @type {WeakMap<import("./routing.mjs").Beginnings, Uint8Array[]>} */
const quantizedBeginnings = new WeakMap();

/**
 * @param {TensorSpec} spec
 * @param {import("./routing.mjs").Beginnings} channel
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
function fillChannel({ type, rowBytes }, channel, rowStart, rowEnd, target, at) {
  const made = quantizedBeginnings.get(channel) ?? [];
  quantizedBeginnings.set(channel, made);
  for (let row = rowStart, to = at; row < rowEnd; row++, to += rowBytes) {
    const index = row % channel.count;
    const bytes = made[index] ?? quantize(type, channel.valuesOf(index), channelLength);
    made[index] = bytes;
    target.set(bytes, to);
  }
}

/**
 * In every type, blocks of zeros are zero.
 * @param {TensorSpec} spec
 * @param {number} silent
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
function silence({ shape: [, rows = 1], rowBytes }, silent, rowStart, rowEnd, target, at) {
  for (let first = Math.floor(rowStart / rows) * rows; first < rowEnd; first += rows) {
    const from = Math.max(first, rowStart);
    const to = Math.min(first + silent, rowEnd);
    if (from < to) target.fill(0, at + (from - rowStart) * rowBytes, at + (to - rowStart) * rowBytes);
  }
}

/** @param {TensorSpec} spec */
function originOf({ name, partOf }) {
  return partOf ?? { name, firstRow: 0 };
}

/**
 * @param {Segment} segment
 * @param {Buffer} pool
 * @param {number} rowBytes
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
function fillSegment({ start, bytes, base, stride, places, blockBytes }, pool, rowBytes, rowStart, rowEnd, target, at) {
  let to = at + start;
  for (let row = rowStart; row < rowEnd; row++, to += rowBytes) {
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
  const random = generator(`${spec.seed}/${originOf(spec).name}/${start}`);
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

/**
 * @param {TensorSpec} spec
 * @param {number} rowStart
 * @param {number} rowEnd
 * @param {Buffer} target
 * @param {number} at
 */
function fillFloats(spec, rowStart, rowEnd, target, at) {
  for (let row = rowStart, to = at; row < rowEnd; row++, to += spec.rowBytes) {
    target.set(new Uint8Array(floatsOf(spec, row).buffer), to);
  }
}

/** @param {TensorSpec} spec @param {number} row @returns {Float32Array<ArrayBuffer>} */
function floatsOf({ seed, name, values, shape: [rowLength = 0], mean, deviation = 0, channelDeviation, silent }, row) {
  if (values) return values.slice(row * rowLength, (row + 1) * rowLength);
  const floats = new Float32Array(rowLength);
  const random = generator(`${seed}/${name}${row ? `/${row}` : ""}`);
  fillNormal(floats, random, deviation, mean);
  if (channelDeviation) fillNormal(floats.subarray(0, channelLength), random, channelDeviation);
  return floats.fill(0, 0, silent ?? 0);
}
