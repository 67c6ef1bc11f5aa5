import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { frameType, writeHeader } from "#stellium/collective/frame";
import { greetingBytes, writeGreeting } from "#stellium/collective/handshake";
import { dividedTokens } from "#stellium/engine/division";
import { openLinkSet } from "#stellium/engine/links/linkSets";
import { sendAll } from "#stellium/native/sockets";
import { engineOptions } from "../answers/cases.mjs";
import { Ranks } from "../answers/ranks.mjs";

/** @typedef {import("./random.mjs").Random} Random */
/** @typedef {import("#stellium/engine/engine").Engine} Engine */

const model = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const host = "127.0.0.1";
/** @type {import("#stellium/collective/cipher").CipherName} */
const cipher = "aes-256-gcm";

/** Two ranks of the bundled model, linked. */
export async function linkedPair() {
  const ranks = await Ranks.start(model, [1, 1], engineOptions("Q8_0"));
  await ranks.link({});
  return ranks;
}

/** Tokens of a step that goes undivided over the engine threads' links, and of one that is divided in two. */
const stepTokens = { engine: 3, communication: dividedTokens };

/** The logits of a step. @param {Ranks} ranks @param {keyof typeof stepTokens} [set] the links that its sums take */
export async function ask(ranks, set = "engine") {
  const tokens = Array.from({ length: stepTokens[set] }, (_, i) => i + 1);
  return Float32Array.from(await ranks.first.step({ tokens, position: 0, outputs: 1 }));
}

/**
 * Opens the links of a pair while strangers greet the rank that waits for the other.
 * @param {Ranks} ranks @param {number} count of strangers @param {Random} random
 */
export async function linkAmongStrangers(ranks, count, random) {
  const [first, second] = /** @type {[Engine, Engine]} */ (ranks.engines);
  await ranks.unlink();
  const [port, other] = [await first.listen(host), await second.listen(host)];
  const keys = [newKey(), newKey()];
  const [there, back] = /** @type {[string, string]} */ (keys);
  const linking = first.link(setupOf(0, { rank: 1, port: other, sendKey: there, receiveKey: back }));
  linking.catch(() => {});
  for (let sent = 0; sent < count; sent += 32) {
    await Promise.all(Array.from({ length: Math.min(32, count - sent) }, () => greet(port, random)));
  }
  await Promise.all([linking, second.link(setupOf(1, { rank: 0, port, sendKey: back, receiveKey: there }))]);
  ranks.followed.push(second.follow().catch((error) => error));
}

/**
 * @param {number} rank
 * @param {{ rank: number, port: number, sendKey: string, receiveKey: string }} peer
 * @returns {import("#stellium/engine/links/rankLinks").LinkSetup}
 */
function setupOf(rank, peer) {
  return { rank, size: 2, peers: [{ host, ...peer }], cipher, wire: "f32", collective: "exchange" };
}

/** Says something to a rank that waits for links, without its key. @param {number} port @param {Random} random */
async function greet(port, random) {
  const key = randomBytes(32);
  const hello = writeGreeting(frameType.hello, { rank: 1, peer: 0, sendKey: key, receiveKey: key }, cipher, key, []);
  const bytes = random.of([
    () => hello,
    () => random.flipped(hello),
    () => random.cut(hello),
    () => random.bytes(200),
  ])();
  const socket = connect(port, host).on("error", () => {});
  socket.resume();
  await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
  socket.write(bytes);
  // What is cut short stays, half open; the oldest makes way where there are too many.
  if (bytes.length >= greetingBytes) await Promise.race([once(socket, "close").catch(() => {}), later(200)]);
  else setTimeout(() => socket.destroy(), 1000).unref();
  if (bytes.length >= greetingBytes) socket.destroy();
}

/**
 * Has the second rank, with the right keys, send something else than its part of a sum, over either set of links. Returns
 * what the first rank says.
 * @param {Ranks} ranks @param {Random} random
 */
export async function sendHostileFrame(ranks, random) {
  const attacked = random.of(/** @type {const} */ (["engine", "communication"]));
  const [first] = /** @type {[Engine]} */ (ranks.engines);
  await ranks.unlink();
  const [port, sendKey, receiveKey] = [await first.listen(host), newKey(), newKey()];
  const linking = first.link(setupOf(0, { rank: 1, port: 1, sendKey: receiveKey, receiveKey: sendKey }));
  const setup = setupOf(1, { rank: 0, port, sendKey, receiveKey });
  const sets = {
    engine: openLinkSet("engine", -1, setup, 5000),
    communication: openLinkSet("communication", -1, setup, 5000),
  };
  const links = [...sets.engine.values(), ...sets.communication.values()];
  try {
    await linking;
    const stepping = ask(ranks, attacked).then(
      () => "it took the frame",
      (error) => String(error.code),
    );
    const due = (stepTokens[attacked] * 256 * 4) / (attacked === "engine" ? 1 : 2);
    for (const { socket } of sets[attacked].values())
      sendAll(socket, hostileBytes(random, due), performance.now() + 1000);
    // What was cut short waits for the rest, until the connection ends.
    await Promise.race([stepping, later(20)]);
    for (const link of links) link.close();
    return await stepping;
  } finally {
    for (const link of links) link.close();
  }
}

/** @param {Random} random @param {number} due bytes of the payload that is waited for */
function hostileBytes(random, due) {
  const bytes = Buffer.concat([new Uint8Array(16), random.bytes(due + 16)]);
  const length = random.of([due, due, 0, 2 ** 32 - 1, random.below(2 ** 32)]);
  writeHeader(new DataView(bytes.buffer, bytes.byteOffset), frameType.data, random.of([0, 0, 1, 2 ** 40]), length);
  return random.of([() => bytes, () => random.flipped(bytes), () => random.cut(bytes), () => random.bytes(500)])();
}

function newKey() {
  return randomBytes(32).toString("base64");
}

/** @param {number} ms */
function later(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
