// One of two ranks on loopback: a JSON request on stdin, a JSON reply on stdout, the listener as descriptor 3.
import { json } from "node:stream/consumers";
import { openCollective } from "#stellium/collective/collective";
import { Group } from "#stellium/collective/group";
import { defaultMaxPayload, openLinks } from "#stellium/collective/openLinks";
import { openWire } from "#stellium/collective/wire";
import { acceptFrom, connectTo, receiveExact, sendAll } from "#stellium/native/sockets";
import { peersOf } from "./peers.mjs";

/** @typedef {import("#stellium/collective/cipher").CipherName} CipherName */
/** @typedef {import("#stellium/collective/collective").CollectiveName} CollectiveName */
/** @typedef {{ cipher: CipherName, collective: CollectiveName }} Subject */

/**
 * @typedef {object} LoopbackRequest
 * @property {number} rank
 * @property {import("./peers.mjs").Address[]} addresses
 * @property {string} secret
 * @property {import("#stellium/collective/wire").WireName} wire
 * @property {number} bytes
 * @property {number} rounds
 * @property {number} repeats Of each subject, in each round.
 * @property {Subject[]} subjects
 */

/** @typedef {{ rawMs: number[], ms: number[][] }} LoopbackReply Times of the ping-pong, and of each subject. */

const listener = 3;
const deadlineMs = 60_000;
const request = /** @type {LoopbackRequest} */ (await json(process.stdin));
const reply = answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {LoopbackRequest} request @returns {LoopbackReply} */
function answer(request) {
  const { rounds, repeats, subjects } = request;
  const runs = [pingPong(request), ...subjects.map((subject) => allReduce(request, subject))];
  /** @type {number[][]} */
  const times = runs.map(() => []);
  for (let round = 0; round <= rounds; round++)
    for (const [at, run] of runs.entries())
      for (let repeat = 0; repeat < repeats; repeat++) {
        const started = performance.now();
        run();
        // The first round warms up.
        if (round > 0) times[at]?.push(performance.now() - started);
      }
  const [rawMs = [], ...ms] = times;
  return { rawMs, ms };
}

/** There and back, begun by rank 1. @param {LoopbackRequest} request */
function pingPong({ rank, addresses, bytes }) {
  const deadline = performance.now() + deadlineMs;
  const { host, port } = /** @type {import("./peers.mjs").Address} */ (addresses[0]);
  const socket = rank === 0 ? acceptFrom(listener, deadline) : connectTo(host, port, deadline);
  const buffer = new Uint8Array(bytes).fill(3);
  const send = () => sendAll(socket, buffer, performance.now() + deadlineMs);
  const receive = () => receiveExact(socket, buffer, performance.now() + deadlineMs);
  const [first, second] = rank === 0 ? [receive, send] : [send, receive];
  return () => {
    first();
    second();
  };
}

/** @param {LoopbackRequest} request @param {Subject} subject */
function allReduce({ rank, addresses, secret, wire: wireName, bytes }, { cipher, collective }) {
  const wire = openWire(wireName);
  const elements = Math.floor((bytes * 4096) / wire.bytes(4096));
  const peers = peersOf(rank, addresses, secret);
  const links = openLinks({ rank, peers, listener, cipher, maxPayload: defaultMaxPayload, deadlineMs });
  const group = new Group({ rank, size: 2, links, wire, deadlineMs, maxElements: elements });
  const summing = openCollective(collective, group);
  const values = new Float32Array(elements);
  return () => {
    values.fill(rank + 1);
    summing.allReduce(values);
    if (values[0] !== 3) throw new Error(`${collective} sums up to ${values[0]}`);
  };
}
