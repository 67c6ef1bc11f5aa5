import { parseArgs } from "node:util";
import { number, numbers } from "../numbers.mjs";

/** @typedef {import("#stellium/collective/wire").WireName} WireName */
/** @typedef {import("#stellium/collective/cipher").CipherName} CipherName */

const full = {
  ranks: "2,4,8",
  latency: "0.1,1,3,10",
  mbit: "100,300,1000",
  payload: "4,16384,32768,1048576,8388608",
  wire: "f32",
  cipher: "none",
  seconds: "5",
};
const quick = { ...full, ranks: "2", latency: "1", mbit: "300", payload: "4,16384", seconds: "0.3" };
/** @type {WireName[]} */
const wires = ["f32", "f16", "q8_0"];
/** @type {CipherName[]} */
const ciphers = ["none", "aes-256-gcm", "chacha20-poly1305"];

/**
 * @typedef {object} Options
 * @property {number[]} ranks
 * @property {number[]} latencies One way, in milliseconds.
 * @property {number[]} mbits
 * @property {number[]} payloads Encoded bytes.
 * @property {WireName} wire
 * @property {CipherName} cipher Of the LAN's links; on loopback both none and AES are measured.
 * @property {number} budgetMs For the repeats of one payload in one cell.
 * @property {boolean} loopback
 * @property {string | undefined} against A built checkout of another version, measured in turns with this one on loopback.
 * @property {string | undefined} json
 */

/**
 * @param {string[]} args
 * @returns {Options}
 */
export function readOptions(args) {
  const text = { type: /** @type {const} */ ("string") };
  const flag = { type: /** @type {const} */ ("boolean") };
  const config = { ranks: text, latency: text, mbit: text, payload: text, wire: text, cipher: text, seconds: text };
  const { values } = parseArgs({
    args,
    options: { ...config, json: text, against: text, quick: flag, loopback: flag },
  });
  const chosen = { ...(values.quick ? quick : full), ...values };
  return {
    ...{ ranks: numbers(chosen.ranks, 2, 64), payloads: numbers(chosen.payload, 4, 2 ** 28) },
    ...{ latencies: numbers(chosen.latency, 0.01, 1000), mbits: numbers(chosen.mbit, 1, 100_000) },
    ...{ wire: oneOf(chosen.wire, wires), cipher: oneOf(chosen.cipher, ciphers) },
    ...{ budgetMs: 1000 * number(chosen.seconds, 0, 3600), loopback: values.loopback ?? false, json: values.json },
    against: values.against,
  };
}

/** @template {string} T @param {string} text @param {T[]} names @returns {T} */
function oneOf(text, names) {
  const name = names.find((known) => known === text);
  if (name === undefined) throw new Error(`"${text}" is none of ${names.join(", ")}`);
  return name;
}
