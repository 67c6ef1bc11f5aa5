import { tensorTypes } from "../../dist/native/tensorTypes.js";

/** @typedef {"IQ1_S" | "IQ1_M"} OneBitType */

/**
 * Whether ggml would search for seconds before it could quantize to this type.
 * @param {string} type
 * @returns {type is OneBitType}
 */
export function isOneBit(type) {
  return type === "IQ1_S" || type === "IQ1_M";
}

/**
 * Blocks of random bits, which are all valid, with one scale for all: values whose standard deviation is about `deviation`.
 * @param {OneBitType} type
 * @param {number} blocks
 * @param {() => number} random
 * @param {number} deviation
 */
export function oneBitBlocks(type, blocks, random, deviation) {
  const { blockBytes } = tensorTypes[type];
  const bytes = new Uint8Array(blocks * blockBytes);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random() >>> 24;
  const setScale = type === "IQ1_S" ? setWholeScale : setSpreadScale;
  for (let at = 0; at < bytes.length; at += blockBytes) setScale(bytes, at, scaleFor(deviation));
  return bytes;
}

/**
 * A power of two as a half float. The grid's values times the block's 3-bit factors (1, 3, ... 15) have a root mean square of 7.
 * @param {number} deviation
 */
function scaleFor(deviation) {
  return (15 + Math.round(Math.log2(deviation / 7))) << 10;
}

/** @param {Uint8Array} bytes @param {number} at @param {number} half */
function setWholeScale(bytes, at, half) {
  bytes[at] = half & 0xff;
  bytes[at + 1] = half >> 8;
}

/**
 * IQ1_M keeps four bits of the scale in the upper ends of each of its last four 16-bit words.
 * @param {Uint8Array} bytes
 * @param {number} at
 * @param {number} half
 */
function setSpreadScale(bytes, at, half) {
  for (let word = 0; word < 4; word++) {
    const upper = at + 48 + 2 * word + 1;
    bytes[upper] = ((bytes[upper] ?? 0) & 0x0f) | (((half >> (4 * word)) & 0x0f) << 4);
  }
}
