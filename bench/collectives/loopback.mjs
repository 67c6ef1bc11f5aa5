import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
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
 * @property {string} wire
 * @property {number} bytes
 * @property {number} repeats
 * @property {number} rawUs The median ping-pong.
 * @property {(Subject & { us: number, ratio: number, target: number })[]} sums Medians; `ratio` is to the ping-pong.
 */

const script = join(import.meta.dirname, "loopbackRank.mjs");
const host = "127.0.0.1";
const bytes = 16_384;
const [rounds, repeats] = [10, 200];
const targets = { plain: 1.5, encrypted: 3 };
/** @type {Subject[]} */
const subjects = [
  { cipher: "none", collective: "exchange" },
  { cipher: "none", collective: "star" },
  { cipher: "aes-256-gcm", collective: "exchange" },
  { cipher: "aes-256-gcm", collective: "star" },
];

/** @param {Options} options @param {AbortSignal} signal @returns {Promise<Placement[]>} */
export async function measureLoopback(options, signal) {
  const unpinned = await measurePlacement("unpinned", options, signal);
  if (coreCount() < 2) return [unpinned];
  return [unpinned, await measurePlacement("pinned", options, signal)];
}

/** @param {Placement["cores"]} cores @param {Options} options @param {AbortSignal} signal */
async function measurePlacement(cores, { wire }, signal) {
  signal.throwIfAborted();
  const { socket, port } = listenOn(host);
  try {
    const addresses = [0, 1].map(() => ({ host, port }));
    const shared = { addresses, secret: randomBytes(32).toString("hex"), wire, bytes, rounds, repeats, subjects };
    const children = [0, 1].map((rank) => startRank(rank, cores, socket));
    const requests = children.map((_, rank) => ({ ...shared, rank }));
    const [, reply] = await askAll(children, requests, signal);
    return placementOf(cores, wire, /** @type {LoopbackReply} */ (reply));
  } finally {
    closeSocket(socket);
  }
}

/** @param {number} rank @param {Placement["cores"]} cores @param {number} listener */
function startRank(rank, cores, listener) {
  const words = [process.execPath, script];
  const [command = "", ...args] = cores === "pinned" ? ["taskset", "-c", coreOf(rank), ...words] : words;
  return spawn(command, args, { stdio: ["pipe", "pipe", "inherit", listener] });
}

/** @param {Placement["cores"]} cores @param {string} wire @param {LoopbackReply} reply @returns {Placement} */
function placementOf(cores, wire, { rawMs, ms }) {
  const rawUs = microseconds(median(rawMs));
  const sums = subjects.map((subject, at) => {
    const us = microseconds(median(ms[at] ?? []));
    const target = subject.cipher === "none" ? targets.plain : targets.encrypted;
    return { ...subject, us, ratio: Math.round((us / rawUs) * 100) / 100, target };
  });
  return { cores, wire, bytes, repeats: rounds * repeats, rawUs, sums };
}

/** @param {number} ms */
function microseconds(ms) {
  return Math.round(ms * 10_000) / 10;
}
