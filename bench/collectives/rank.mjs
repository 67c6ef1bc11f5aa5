// One rank on a device of the emulated LAN: a JSON request on stdin, a JSON reply on stdout.
import { json } from "node:stream/consumers";
import { autoCollective } from "#stellium/collective/auto";
import { broadcast } from "#stellium/collective/broadcast";
import { calibrate, correctionOf } from "#stellium/collective/calibrate";
import { collectiveNames, openCollective } from "#stellium/collective/collective";
import { Group } from "#stellium/collective/group";
import { lookAt, measureRates } from "#stellium/collective/measure";
import { defaultMaxPayload, openLinks } from "#stellium/collective/openLinks";
import { openWire } from "#stellium/collective/wire";
import { closeSocket, listenOn } from "#stellium/native/sockets";
import { createRandom } from "#stellium/serving/random";
import { peersOf } from "./peers.mjs";

/** @typedef {import("#stellium/collective/collective").Collective} Collective */
/** @typedef {import("#stellium/collective/wire").Wire} Wire */
/** @typedef {import("#stellium/collective/choose").LinkMeasurements} LinkMeasurements */

/**
 * @typedef {object} RankRequest
 * @property {number} rank
 * @property {import("./peers.mjs").Address[]} addresses
 * @property {string} secret
 * @property {import("#stellium/collective/wire").WireName} wire
 * @property {import("#stellium/collective/cipher").CipherName} cipher
 * @property {number[]} payloads
 * @property {number} budgetMs
 */

/**
 * @typedef {object} PayloadTimes
 * @property {number} bytes Asked for.
 * @property {number} encodedBytes
 * @property {string} pick What auto chose.
 * @property {Record<string, Span[]>} spans Of this rank, by collective.
 */

/** @typedef {[start: number, end: number]} Span By the clock that all processes of a machine have, in milliseconds. */
/** @typedef {{ measurements: LinkMeasurements, payloads: PayloadTimes[] }} RankReply */

const deadlineMs = 300_000;
const mostRounds = 31;

const request = /** @type {RankRequest} */ (await json(process.stdin));
const reply = answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {RankRequest} request @returns {RankReply} */
function answer({ rank, addresses, secret, wire: wireName, cipher, payloads, budgetMs }) {
  const own = /** @type {import("./peers.mjs").Address} */ (addresses[rank]);
  const wire = openWire(wireName);
  const maxElements = Math.max(...payloads.map((bytes) => elementsOf(wire, bytes)));
  const listener = listenOn(own.host, own.port).socket;
  const peers = peersOf(rank, addresses, secret);
  const links = openLinks({ rank, peers, listener, cipher, maxPayload: defaultMaxPayload, deadlineMs });
  const group = new Group({ rank, size: addresses.length, links, wire, deadlineMs, maxElements });
  try {
    const measurements = measureRates(group, lookAt(group));
    const correction = correctionOf(calibrate(group, measurements));
    const open = () => autoCollective(group, measurements, correction);
    return {
      measurements,
      payloads: payloads.map((bytes) => timePayload(group, measurements, open(), bytes, budgetMs)),
    };
  } finally {
    group[Symbol.dispose]();
    closeSocket(listener);
  }
}

/** @param {Wire} wire @param {number} bytes */
function elementsOf(wire, bytes) {
  return Math.max(1, Math.floor((bytes * 4096) / wire.bytes(4096)));
}

/**
 * The first round warms up, and only counts where there is no time for another one.
 * @param {Group} group
 * @param {LinkMeasurements} measurements
 * @param {import("#stellium/collective/auto").AutoCollective} auto
 * @param {number} bytes
 * @param {number} budgetMs
 * @returns {PayloadTimes}
 */
function timePayload(group, measurements, auto, bytes, budgetMs) {
  const subjects = [...collectiveNames.map((name) => openCollective(name, group)), auto];
  const values = new Float32Array(elementsOf(group.wire, bytes));
  const leadMs = leadOf(measurements);
  const started = performance.now();
  const first = timeRound(group, subjects, values, leadMs, 0);
  const rounds = agree(group, Math.min(mostRounds, budgetMs / (performance.now() - started)));
  const later = Array.from({ length: rounds }, (_, round) => timeRound(group, subjects, values, leadMs, round + 1));
  const kept = rounds > 0 ? later : [first];
  /** @param {Collective["name"]} name @returns {Span[]} */
  const spansOf = (name) => kept.map((spans) => spans.get(name) ?? [0, 0]);
  const spans = Object.fromEntries(subjects.map(({ name }) => [name, spansOf(name)]));
  const [[encodedBytes, { name: pick }] = [0, { name: "" }]] = auto.choices;
  return { bytes, encodedBytes, pick, spans };
}

/** How long before a start it is told, so that it has come everywhere. @param {LinkMeasurements} measurements */
function leadOf({ size, latencyMs }) {
  return 2 + 2 * Math.ceil(Math.log2(size)) * Math.max(...latencyMs.flat());
}

/** What rank 0 says, on all ranks. @param {Group} group @param {number} rounds */
function agree(group, rounds) {
  const said = new Uint32Array([rounds]);
  broadcast(group, 0, new Uint8Array(said.buffer));
  return said[0] ?? 0;
}

/**
 * Every collective once, each round in another order, the same on all ranks: what one leaves behind in the system's
 * buffers and windows meets another each time.
 * @param {Group} group
 * @param {Collective[]} subjects
 * @param {Float32Array} values
 * @param {number} leadMs
 * @param {number} round
 */
function timeRound(group, subjects, values, leadMs, round) {
  const random = createRandom(round);
  const order = subjects.map((collective) => ({ collective, place: random.uniform() }));
  order.sort((a, b) => a.place - b.place);
  return new Map(order.map(({ collective }) => [collective.name, timeOne(group, collective, values, leadMs)]));
}

/**
 * @param {Group} group
 * @param {Collective} collective
 * @param {Float32Array} values
 * @param {number} leadMs
 * @returns {Span}
 */
function timeOne(group, collective, values, leadMs) {
  values.fill(group.rank + 1);
  startTogether(group, leadMs);
  const start = now();
  collective.allReduce(values);
  const end = now();
  const expected = (group.size * (group.size + 1)) / 2;
  const [found = 0] = values;
  if (Math.abs(found - expected) > expected / 50) throw new Error(`${collective.name} sums up to ${found}`);
  return [start, end];
}

/**
 * A barrier alone leaves ranks up to a hop apart, which exchange would be charged for: rank 0 says when to start.
 * @param {Group} group
 * @param {number} leadMs
 */
function startTogether(group, leadMs) {
  openCollective("exchange", group).allReduce(new Float32Array(1));
  const start = new Float64Array([now() + leadMs]);
  broadcast(group, 0, new Uint8Array(start.buffer));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.max(0, (start[0] ?? 0) - now()));
}

function now() {
  return Number(process.hrtime.bigint()) / 1e6;
}
