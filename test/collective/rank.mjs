import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { autoCollective } from "#stellium/collective/auto";
import { broadcast } from "#stellium/collective/broadcast";
import { calibrate, correctionOf } from "#stellium/collective/calibrate";
import { collectiveNames, openCollective } from "#stellium/collective/collective";
import { Group } from "#stellium/collective/group";
import { lookAt, measureRates } from "#stellium/collective/measure";
import { openLinks } from "#stellium/collective/openLinks";
import { tune } from "#stellium/collective/tune";
import { openWire, wireNames } from "#stellium/collective/wire";
import { peersOf } from "./keys.mjs";

// One rank of a group, as a thread or a process: opens its links, does one job, and reports.

/** @typedef {import("#stellium/collective/wire").WireName} WireName */
/** @typedef {import("#stellium/collective/collective").CollectiveName} CollectiveName */
/** @typedef {import("#stellium/collective/group").GroupOptions} GroupOptions */
/** @type {import("./ranks.ts").RankData} */
const {
  rank,
  size,
  ports,
  listener,
  cipher,
  deadlineMs,
  maxPayload,
  job,
  collective: named,
} = workerData ?? JSON.parse(process.env["RANK"] ?? "");

const sizes = [0, 1, 3, 31, 32, 33, 1000, 4097, 100_000];

/** @type {Record<string, () => unknown>} */
const jobs = {
  compliance,
  bulk,
  close: () => fail("close"),
  stall: () => fail("stall"),
  untilKilled,
  greet: () => true,
  auto,
  broadcasts,
  steady,
  tuning,
};

const links = openLinks({ rank, peers: peersOf(rank, ports), listener, cipher, maxPayload, deadlineMs });
try {
  report({ result: jobs[job]?.() });
} catch (error) {
  report({ failure: String(error) });
} finally {
  for (const link of links.values()) link.close();
}

/** @param {WireName} wire @param {Partial<GroupOptions>} [options] */
function groupOf(wire, options) {
  return new Group({ rank, size, links, wire: openWire(wire), deadlineMs, maxElements: 100_000, ...options });
}

/** Values of a rank: no two sums of them in different orders need be the same. @param {number} of @param {number} n */
function valuesOf(of, n) {
  let state = of * 7919 + n + 1;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state / 2 ** 31) * (state & 16 ? 1 : 1000);
  });
}

/** @param {number} n */
function sumInRankOrder(n) {
  const sum = valuesOf(0, n);
  for (let other = 1; other < size; other++) {
    const values = valuesOf(other, n);
    for (let i = 0; i < n; i++) sum[i] = (sum[i] ?? 0) + (values[i] ?? 0);
  }
  return sum;
}

/** @param {Float32Array} values */
function digest(values) {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

/** Every collective, wire type and size, in one go. */
function compliance() {
  const groups = wireNames.map((wire) => groupOf(wire));
  return sizes.flatMap((n) => {
    const [own, sum] = [valuesOf(rank, n), sumInRankOrder(n)];
    return groups.flatMap((group) =>
      collectiveNames.map((name) => {
        const values = own.slice();
        openCollective(name, group).allReduce(values);
        const worst = values.reduce((most, value, i) => Math.max(most, Math.abs(value - (sum[i] ?? 0))), 0);
        return { name, wire: group.wire.name, n, digest: digest(values), expected: digest(sum), worst };
      }),
    );
  });
}

/** Bytes of JavaScript's heap that a sum takes which has been done before, by collective and wire type. */
function steady() {
  const values = new Float32Array(4096);
  return wireNames.flatMap((wire) => {
    const group = groupOf(wire);
    return collectiveNames.map((name) => {
      const collective = openCollective(name, group);
      return { name, wire, bytes: allocatedBy(() => collective.allReduce(values)) };
    });
  });
}

/**
 * The median of rounds: in some, functions are compiled or garbage is collected. A round leaves less than what the
 * youngest generation has room for.
 * @param {() => void} action
 */
function allocatedBy(action) {
  for (let i = 0; i < 2000; i++) action();
  const rounds = Array.from({ length: 15 }, () => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 20; i++) action();
    return (process.memoryUsage().heapUsed - before) / 20;
  });
  return rounds.sort((a, b) => a - b)[7];
}

/** Megabytes between all pairs at once, in both directions. */
function bulk() {
  const n = 2_000_000;
  const group = groupOf("f32", { maxElements: n });
  return collectiveNames.map((name) => {
    const values = new Float32Array(n).fill(rank + 1);
    openCollective(name, group).allReduce(values);
    return values.every((value) => value === (size * (size + 1)) / 2);
  });
}

/** Rank 1 fails in some way between two sums; the others say what they see. @param {"close" | "stall"} how */
function fail(how) {
  const group = groupOf("f16", { deadlineMs: 700 });
  const collective = openCollective(/** @type {CollectiveName} */ (named), group);
  const values = new Float32Array(5000).fill(1);
  collective.allReduce(values);
  if (rank === 1 && how === "stall") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
  if (rank === 1) return undefined;
  return untilLost(() => collective.allReduce(values));
}

/** Goes on until it is told that a link is lost, and takes the time from then. @param {() => void} step */
function untilLost(step) {
  for (let started = performance.now(); ; started = performance.now()) {
    try {
      step();
    } catch (error) {
      const { code, message, values } = /** @type {import("#stellium/errors").StelliumError} */ (error);
      return { code, message, values, ms: performance.now() - started, again: messageOf(step) };
    }
  }
}

/** @param {() => void} step */
function messageOf(step) {
  try {
    step();
    return undefined;
  } catch (error) {
    return /** @type {Error} */ (error).message;
  }
}

/** Sums up until one rank's process is killed. */
function untilKilled() {
  const collective = openCollective("exchange", groupOf("f32", { deadlineMs: 5000 }));
  const values = new Float32Array(1000);
  collective.allReduce(values);
  if (parentPort === null) report({ started: true });
  return untilLost(() => collective.allReduce(values));
}

/** @param {object} message */
function report(message) {
  if (parentPort !== null) parentPort.postMessage(message);
  else process.send?.(message);
}

function auto() {
  const group = groupOf("f32");
  const measurements = measureRates(group, lookAt(group));
  const correction = correctionOf(calibrate(group, measurements));
  const collective = autoCollective(group, measurements, correction);
  const sums = [1, 4096, 100_000].map((n) => {
    const values = valuesOf(rank, n);
    collective.allReduce(values);
    return digest(values);
  });
  const corrections = [4, 4096, 10_000_000].map((bytes) => correction("exchange", bytes));
  return { measurements, sums, corrections, choices: [...collective.choices.values()], statistics: group.statistics() };
}

/** Tunes several times, of which the last one is told of another network than the one before. */
function tuning() {
  const group = groupOf("f32");
  /** @type {import("#stellium/collective/tune").Tuning[]} */
  const remembered = [];
  const last = remembered.at.bind(remembered, -1);
  const tuneOnce = (/** @type {typeof last} */ recall) => {
    const before = group.statistics().bytesSent;
    const { measurements, trials } = tune(group, { recall, remember: (now) => remembered.push(now) });
    return { measurements, trials, bytes: group.statistics().bytesSent - before };
  };
  const tunings = Array.from({ length: 10 }, () => tuneOnce(last));
  const known = remembered.length;
  const slower = (/** @type {import("#stellium/collective/tune").Tuning | undefined} */ now) =>
    now && { ...now, look: { ...now.look, latencyMs: now.look.latencyMs.map((row) => row.map((ms) => 1000 + ms)) } };
  tuneOnce(() => slower(last()));
  return { tunings, remembered: known, again: remembered.length };
}

function broadcasts() {
  const group = groupOf("q8_0");
  return [0, 1, 65, 300_001].map((n) => {
    const bytes = new Uint8Array(n).fill(rank + 1);
    broadcast(group, size - 1, bytes);
    return bytes.every((byte) => byte === size);
  });
}
