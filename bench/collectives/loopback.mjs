import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import { closeSocket, listenOn } from "#stellium/native/sockets";
import { coreCount, coreOf } from "../lan/cores.mjs";
import { median } from "../single/statistics.mjs";
import { askAll } from "./processes.mjs";

/** @typedef {import("./options.mjs").Options} Options */
/** @typedef {import("./loopbackRank.mjs").Subject} Subject */
/** @typedef {import("./loopbackRank.mjs").LoopbackReply} LoopbackReply */

/**
 * @typedef {object} Placement
 * @property {"unpinned" | "pinned"} cores Pinned: one core for each rank.
 * @property {string | undefined} build The checkout that was measured, if it is not this one.
 * @property {number} evictedBytes Memory that is moved before each time, as computing a block does; 0: nothing.
 * @property {string} wire
 * @property {number} bytes
 * @property {number} repeats
 * @property {number} rawUs The median ping-pong.
 * @property {number} rawCpuUs Its processor time, on one rank: the mean of a round, and the median of those.
 * @property {LoopbackSum[]} sums
 *
 * @typedef {object} LoopbackSumFigures
 * @property {number} us The median.
 * @property {number} ratio Of it to the ping-pong.
 * @property {number} target
 * @property {number} beyondUs What it takes longer than the ping-pong.
 * @property {number} cpuUs Processor time on one rank.
 * @property {number} beyondCpuUs The same beyond that of the ping-pong.
 * @property {number} allocatedBytes Of JavaScript's heap, by one sum.
 *
 * @typedef {Subject & LoopbackSumFigures} LoopbackSum
 */

const script = join(import.meta.dirname, "loopbackRank.mjs");
const here = join(import.meta.dirname, "../..");
const host = "127.0.0.1";
const bytes = 16_384;
/** Builds take turns, each time in new processes. */
const [turns, rounds, repeats] = [3, 4, 100];
const targets = { plain: 1.5, encrypted: 3 };
/** @type {Subject[]} */
const subjects = [
  { cipher: "none", collective: "exchange" },
  { cipher: "none", collective: "star" },
  { cipher: "aes-256-gcm", collective: "exchange" },
  { cipher: "aes-256-gcm", collective: "star" },
];
/** @type {Pick<Placement, "cores" | "evictedBytes">[]} */
const placements = [
  { cores: "unpinned", evictedBytes: 0 },
  { cores: "pinned", evictedBytes: 0 },
  { cores: "pinned", evictedBytes: 8 * 2 ** 20 },
];

/** @param {Options} options @param {AbortSignal} signal @returns {Promise<Placement[]>} */
export async function measureLoopback({ wire, against }, signal) {
  const builds = against === undefined ? [here] : [resolve(against), here];
  const possible = placements.filter(({ cores }) => cores === "unpinned" || coreCount() > 1);
  const measured = [];
  for (const placement of possible) {
    /** @type {LoopbackReply[][]} */
    const replies = builds.map(() => []);
    for (let turn = 0; turn < turns; turn++)
      for (const [at, build] of builds.entries())
        replies[at]?.push(await measureTurn({ ...placement, build, wire }, signal));
    for (const [at, build] of builds.entries()) {
      const about = { ...placement, build: build === here ? undefined : build, wire };
      measured.push(placementOf(about, replies[at] ?? []));
    }
  }
  return measured;
}

/**
 * @param {Pick<Placement, "cores" | "evictedBytes" | "wire"> & { build: string }} placement
 * @param {AbortSignal} signal
 * @returns {Promise<LoopbackReply>}
 */
async function measureTurn({ cores, evictedBytes, wire, build }, signal) {
  signal.throwIfAborted();
  const { socket, port } = listenOn(host);
  try {
    const addresses = [0, 1].map(() => ({ host, port }));
    const secret = randomBytes(32).toString("hex");
    const shared = { addresses, secret, wire, bytes, rounds, repeats, evictedBytes, subjects };
    const children = [0, 1].map((rank) => startRank(rank, cores, socket, build));
    const requests = children.map((_, rank) => ({ ...shared, rank }));
    const [, reply] = await askAll(children, requests, signal);
    return reply;
  } finally {
    closeSocket(socket);
  }
}

/** @param {number} rank @param {Placement["cores"]} cores @param {number} listener @param {string} build */
function startRank(rank, cores, listener, build) {
  const words = [process.execPath, script, build];
  const [command = "", ...args] = cores === "pinned" ? ["taskset", "-c", coreOf(rank), ...words] : words;
  return spawn(command, args, { stdio: ["pipe", "pipe", "inherit", listener] });
}

/**
 * @param {Pick<Placement, "cores" | "evictedBytes" | "build" | "wire">} about
 * @param {LoopbackReply[]} replies
 * @returns {Placement}
 */
function placementOf(about, replies) {
  const raw = figuresOf(replies.map((reply) => reply.raw));
  const sums = subjects.map((subject, at) => {
    const sum = figuresOf(replies.flatMap((reply) => reply.sums[at] ?? []));
    const ratio = Math.round((sum.us / raw.us) * 100) / 100;
    const target = subject.cipher === "none" ? targets.plain : targets.encrypted;
    const [beyondUs, beyondCpuUs] = [rounded(sum.us - raw.us), rounded(sum.cpuUs - raw.cpuUs)];
    return { ...subject, ...sum, ratio, target, beyondUs, beyondCpuUs };
  });
  return { ...about, bytes, repeats: turns * rounds * repeats, rawUs: raw.us, rawCpuUs: raw.cpuUs, sums };
}

/** Medians of all turns. @param {import("./loopbackRank.mjs").Samples[]} samples */
function figuresOf(samples) {
  const middle = (/** @type {"us" | "cpuUs" | "allocatedBytes"} */ key) => median(samples.flatMap((of) => of[key]));
  return {
    us: rounded(middle("us")),
    cpuUs: rounded(middle("cpuUs")),
    allocatedBytes: Math.max(0, Math.round(middle("allocatedBytes"))),
  };
}

/** @param {number} value */
function rounded(value) {
  return Math.round(value * 10) / 10;
}
