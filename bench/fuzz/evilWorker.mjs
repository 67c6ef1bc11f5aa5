import { once } from "node:events";
import { workerMessage } from "#stellium/cluster/control/messages";
import { connectSecurely } from "#stellium/cluster/control/secure";
import { Conversation } from "./conversation.mjs";
import { hello } from "./messages.mjs";
import { anyFrame } from "./mutation.mjs";

/** @typedef {import("./random.mjs").Random} Random */
/** @typedef {import("#stellium/cluster/token").JoinToken} JoinToken */

const host = "127.0.0.1";
const longName = "n".repeat(60);

/** The messages of a worker, each with all of its optional fields. @type {import("#stellium/cluster/control/messages").WorkerMessage[]} */
const phrases = [
  { type: "slice-request", blocks: [0, 1, 2] },
  { type: "slice-request", blocks: Array.from({ length: 4096 }, (_, i) => i % 3) },
  { type: "slice-progress", bytes: 1, total: 2 },
  { type: "slice-complete" },
  { type: "ready", phase: "listening", dataPort: 9 },
  { type: "ready", phase: "linked" },
  { type: "ready", phase: "loaded" },
  { type: "stats", figures: Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`f${i}`, 1e18])) },
  { type: "profile", times: Array(30_000).fill(1.5) },
  { type: "clock", sequence: 4, now: -1e18 },
  {
    type: "trace",
    last: false,
    dropped: 0,
    events: Array.from({ length: 2000 }, (_, i) => ({
      ...{ name: longName, thread: longName, start: -1e18, duration: 1e18, figures: { [`a${i}`]: i } },
    })),
  },
];

/**
 * Workers that take places of a cluster, one after the other and `atOnce` at a time, and say what they should not. Returns
 * how many messages were sent, and how many workers were dropped for them.
 * @param {number} port @param {JoinToken} token @param {number} count of messages @param {number} atOnce @param {Random} random
 */
export async function evilWorkers(port, token, count, atOnce, random) {
  const outcome = { sent: 0, dropped: 0, placed: 0 };
  const one = async () => {
    while (outcome.sent < count) await misbehave(port, token, outcome, random);
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return outcome;
}

/** @param {number} port @param {JoinToken} token @param {{ sent: number, dropped: number, placed: number }} outcome @param {Random} random */
async function misbehave(port, token, outcome, random) {
  const socket = connectSecurely({ host, port }, token.credential).on("error", () => {});
  await Promise.race([once(socket, "secureConnect"), once(socket, "close")]).catch(() => {});
  const conversation = new Conversation(socket);
  conversation.send({ ...hello, name: `evil ${outcome.sent}` });
  if ((await conversation.next("plan")) !== undefined) outcome.placed++;
  for (let left = 20; left > 0 && !conversation.closed; left--) {
    outcome.sent++;
    conversation.raw(anyFrame(phrases, workerMessage, random));
    if (!(await conversation.goesOn())) break;
  }
  if (conversation.closed) outcome.dropped++;
  conversation.close();
}
