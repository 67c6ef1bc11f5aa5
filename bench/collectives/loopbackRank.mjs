// node loopbackRank.mjs CHECKOUT: one of two ranks on loopback, by the built code of a checkout. A JSON request on stdin, a
// JSON reply on stdout, the listener as descriptor 3.
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
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
 * @property {number} evictedBytes Moved in memory before each time: 0 for nothing.
 * @property {Subject[]} subjects
 */

/**
 * @typedef {object} Samples
 * @property {number[]} us Of each repeat.
 * @property {number[]} cpuUs Processor time of this process in a repeat, by rounds.
 * @property {number[]} allocatedBytes Of the heap by a repeat, by rounds in which nothing was collected.
 */

/** @typedef {{ raw: Samples, sums: Samples[] }} LoopbackReply Of the ping-pong, and of each subject. */

/** @param {string} name */
const load = (name) => import(pathToFileURL(join(process.argv[2] ?? "", "dist", `${name}.js`)).href);
/** @type {typeof import("#stellium/collective/collective")} */
const { openCollective } = await load("collective/collective");
/** @type {typeof import("#stellium/collective/group")} */
const { Group } = await load("collective/group");
/** @type {typeof import("#stellium/collective/openLinks")} */
const { defaultMaxPayload, openLinks } = await load("collective/openLinks");
/** @type {typeof import("#stellium/collective/wire")} */
const { openWire } = await load("collective/wire");
/** @type {typeof import("#stellium/native/sockets")} */
const { acceptFrom, connectTo, receiveExact, sendAll } = await load("native/sockets");

const listener = 3;
const deadlineMs = 60_000;
/** Repeats before anything is measured: functions are compiled by then. */
const warmUp = 1500;
const request = /** @type {LoopbackRequest} */ (await json(process.stdin));
const reply = answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {LoopbackRequest} request @returns {LoopbackReply} */
function answer(request) {
  const { rounds, repeats, subjects, evictedBytes } = request;
  const evict = evictor(evictedBytes);
  const subjectOf = (/** @type {() => void} */ run) => ({ run, samples: noSamples() });
  const raw = subjectOf(pingPong(request));
  const sums = subjects.map((subject) => subjectOf(allReduce(request, subject)));
  for (const { run } of [raw, ...sums]) for (let repeat = 0; repeat < warmUp; repeat++) run();
  for (let round = 0; round < rounds; round++)
    for (const { run, samples } of [raw, ...sums]) {
      takeTimes(run, samples, repeats, evict);
      takeAllocation(run, samples, repeats);
    }
  return { raw: raw.samples, sums: sums.map(({ samples }) => samples) };
}

/** @returns {Samples} */
function noSamples() {
  return { us: [], cpuUs: [], allocatedBytes: [] };
}

/** Evicts other data from the processor's caches, as the weights of a block do. @param {number} bytes */
function evictor(bytes) {
  const [from, into] = [new Uint8Array(bytes / 2).fill(1), new Uint8Array(bytes / 2)];
  return () => into.set(from);
}

/** @param {() => void} run @param {Samples} samples @param {number} repeats @param {() => void} evict */
function takeTimes(run, samples, repeats, evict) {
  let cpuUs = 0;
  for (let repeat = 0; repeat < repeats; repeat++) {
    evict();
    const [cpu, started] = [process.cpuUsage(), performance.now()];
    run();
    samples.us.push(1000 * (performance.now() - started));
    const { user, system } = process.cpuUsage(cpu);
    cpuUs += user + system;
  }
  samples.cpuUs.push(cpuUs / repeats);
}

/** @param {() => void} run @param {Samples} samples @param {number} repeats */
function takeAllocation(run, samples, repeats) {
  const before = process.memoryUsage().heapUsed;
  for (let repeat = 0; repeat < repeats; repeat++) run();
  const allocated = process.memoryUsage().heapUsed - before;
  if (allocated >= 0) samples.allocatedBytes.push(allocated / repeats);
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
