import { json } from "node:stream/consumers";
import { Engine } from "#stellium/engine/engine";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { peersOf } from "../collectives/peers.mjs";

// One device of the comparison: takes the same prompt with and without overlap, in turns, and tells rank 0's times.

/**
 * @typedef {object} RankRequest
 * @property {number} rank
 * @property {import("../collectives/peers.mjs").Address[]} addresses
 * @property {string} secret
 * @property {string} model
 * @property {number} tokens
 * @property {number} rounds
 * @property {import("#stellium/collective/wire").WireName} wire
 *
 * @typedef {object} Prefill Milliseconds of one prompt, and what they went to.
 * @property {boolean} overlap
 * @property {number} ms
 * @property {number} computeMs
 * @property {number} wireMs
 * @property {number} waitMs
 * @property {number} bytesSent
 */

const request = /** @type {RankRequest} */ (await json(process.stdin));
const prompt = Array.from({ length: request.tokens }, (_, i) => (i * 37 + 11) % 1000);
const reply = await answer(request);
process.stdout.write(JSON.stringify({ prefills: reply, peakRssBytes: process.resourceUsage().maxRSS * 1024 }));

/** @param {RankRequest} request @returns {Promise<Prefill[]>} */
async function answer(request) {
  const engine = await startEngine(request);
  try {
    /** @type {Prefill[]} */
    const prefills = [];
    for (let turn = 0; turn < 2 * request.rounds; turn++) {
      const overlap = turn % 2 === (turn >> 1) % 2;
      await link(engine, request, overlap);
      if (request.rank > 0) await engine.follow().catch(() => {});
      else prefills.push(await prefill(engine, overlap));
      engine.cutLinks();
    }
    return prefills;
  } finally {
    await engine[Symbol.asyncDispose]();
  }
}

/** @param {RankRequest} request */
async function startEngine({ rank, addresses, model, tokens }) {
  const whole = describe(await readGguf(model));
  const equal = addresses.map(() => 1);
  const description = rankDescription(whole, planShares(whole, equal), rank);
  const size = { batch: tokens, context: tokens, kvType: /** @type {const} */ ("f16"), outputs: 1 };
  const options = { threads: 1, poll: 50, graphs: /** @type {const} */ ("whole"), ...size };
  return Engine.start({ description, options, origin: { kind: "gguf", files: whole.files } });
}

/** @param {Engine} engine @param {RankRequest} request @param {boolean} overlap */
async function link(engine, { rank, addresses, secret, wire }, overlap) {
  const own = /** @type {import("../collectives/peers.mjs").Address} */ (addresses[rank]);
  const peers = peersOf(rank, addresses, secret).map((peer) => ({
    ...peer,
    sendKey: peer.sendKey.toString("base64"),
    receiveKey: peer.receiveKey.toString("base64"),
  }));
  await engine.listen(own.host, own.port);
  const style = { cipher: /** @type {const} */ ("aes-256-gcm"), wire, collective: /** @type {const} */ ("auto") };
  await engine.link({ rank, size: addresses.length, peers, ...style, overlap });
}

/** The second of two times, when graphs are built and windows are open. @param {Engine} engine @param {boolean} overlap */
async function prefill(engine, overlap) {
  await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  const before = engine.statistics;
  const started = performance.now();
  await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  const ms = performance.now() - started;
  const { statistics: after } = engine;
  const since = (/** @type {"computeMs" | "wireMs" | "waitMs" | "bytesSent"} */ name) => after[name] - before[name];
  const figures = { computeMs: since("computeMs"), wireMs: since("wireMs"), waitMs: since("waitMs") };
  return { overlap, ms, ...figures, bytesSent: since("bytesSent") };
}
