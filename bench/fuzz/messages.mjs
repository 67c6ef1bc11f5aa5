import { creditFrame, dataFrame, jsonFrame } from "#stellium/cluster/control/frames";
import { protocolVersion } from "#stellium/cluster/control/messages";

/** @typedef {import("./random.mjs").Random} Random */

/** A message as it crosses the control channel. @param {unknown} message */
export function framed(message) {
  return Buffer.concat(jsonFrame(Buffer.from(JSON.stringify(message) ?? "null")));
}

/** What both sides say first. */
export const greeting = framed({ type: "version", protocol: protocolVersion, stellium: "0.1.0" });

/** @type {import("#stellium/cluster/control/messages").WorkerHello} */
export const hello = {
  type: "hello",
  name: "insider",
  host: "insider.local",
  threads: 1,
  memoryCap: null,
  features: [],
  cpuVariant: null,
  ggml: "0",
  cache: [],
  keepsKey: false,
};

/** @type {import("#stellium/cluster/control/messages").WorkerMessage[]} */
const samples = [
  hello,
  { type: "ping", sequence: 1 },
  { type: "pong", sequence: 1 },
  { type: "slice-request", blocks: [0, 1, 4095] },
  { type: "slice-progress", bytes: 1, total: 2 },
  { type: "slice-complete" },
  { type: "ready", phase: "listening", dataPort: 40_000 },
  { type: "ready", phase: "linked" },
  { type: "ready", phase: "loaded" },
  { type: "stats", figures: { computeMs: 1.5 } },
];

const extremes = [null, true, -1, 0.5, 2 ** 53, 1e308, "", "\0", "x".repeat(5000), [], {}, Array(5000).fill(0)];

/** What a device that knows the token should not send, and now and then what it may. @param {Random} random */
export function hostileFrame(random) {
  const message = random.of(samples);
  // Most are taken, since each that is not costs a connection.
  if (random.below(2) === 0) return framed(message);
  const kinds = [
    () => framed(changed(message, random)),
    () => framed(changed(message, random)),
    () => random.flipped(framed(message)),
    () => Buffer.concat(dataFrame(random.below(2 ** 32), random.below(2 ** 50), random.bytes(1 + random.below(64)))),
    () => Buffer.concat(creditFrame(random.below(2 ** 32))),
    () => Buffer.concat(jsonFrame(random.bytes(2 + random.below(64)))),
    () => announced(random),
  ];
  return random.of(kinds)();
}

/** A frame that says it is of any length, and a few bytes of it. @param {Random} random */
function announced(random) {
  const head = Buffer.alloc(5);
  head.writeUInt32LE(random.below(2 ** 32));
  head[4] = random.below(5);
  return Buffer.concat([head, random.bytes(random.below(32))]);
}

/**
 * A value with one place changed, however deep.
 * @param {unknown} value @param {Random} random
 * @returns {unknown}
 */
export function changed(value, random) {
  if (typeof value !== "object" || value === null || random.below(6) === 0) return random.of(extremes);
  const entries = Object.entries(value);
  if (entries.length === 0) return random.of(extremes);
  const at = random.below(entries.length);
  if (Array.isArray(value)) return value.map((item, i) => (i === at ? changed(item, random) : item));
  if (random.below(8) === 0) return Object.fromEntries(entries.filter((_, i) => i !== at));
  return Object.fromEntries(entries.map(([key, item], i) => [key, i === at ? changed(item, random) : item]));
}
