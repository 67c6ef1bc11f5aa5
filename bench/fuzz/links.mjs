import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { frameType, writeHeader } from "#stellium/collective/frame";
import { greetingBytes, writeGreeting } from "#stellium/collective/handshake";
import { defaultMaxPayload, openLinks } from "#stellium/collective/openLinks";
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

/** The logits of a step. @param {Ranks} ranks */
export async function ask(ranks) {
  return Float32Array.from(await ranks.first.step({ tokens: [1, 2, 3], position: 0, outputs: 1 }));
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
 * @returns {import("#stellium/engine/rankLinks").LinkSetup}
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
 * Has the second rank, with the right keys, send something else than its part of a sum. Returns what the first rank says.
 * @param {Ranks} ranks @param {Random} random
 */
export async function sendHostileFrame(ranks, random) {
  const [first] = /** @type {[Engine]} */ (ranks.engines);
  await ranks.unlink();
  const [port, sendKey, receiveKey] = [await first.listen(host), newKey(), newKey()];
  const linking = first.link(setupOf(0, { rank: 1, port: 1, sendKey: receiveKey, receiveKey: sendKey }));
  const peer = { rank: 0, host, port, sendKey: bytesOf(sendKey), receiveKey: bytesOf(receiveKey) };
  const options = { rank: 1, peers: [peer], listener: -1, cipher };
  const links = openLinks({ ...options, maxPayload: defaultMaxPayload, deadlineMs: 5000 });
  try {
    await linking;
    const stepping = ask(ranks).then(
      () => "it took the frame",
      (error) => String(error.code),
    );
    for (const link of links.values()) sendAll(link.socket, hostileBytes(random), performance.now() + 1000);
    // What was cut short waits for the rest, until the connection ends.
    await Promise.race([stepping, later(20)]);
    for (const link of links.values()) link.close();
    return await stepping;
  } finally {
    for (const link of links.values()) link.close();
  }
}

/** @param {Random} random */
function hostileBytes(random) {
  const due = 3 * 256 * 4;
  const bytes = Buffer.concat([new Uint8Array(16), random.bytes(due + 16)]);
  const length = random.of([due, due, 0, 2 ** 32 - 1, random.below(2 ** 32)]);
  writeHeader(new DataView(bytes.buffer, bytes.byteOffset), frameType.data, random.of([0, 0, 1, 2 ** 40]), length);
  return random.of([() => bytes, () => random.flipped(bytes), () => random.cut(bytes), () => random.bytes(500)])();
}

function newKey() {
  return randomBytes(32).toString("base64");
}

/** @param {string} key */
function bytesOf(key) {
  return Buffer.from(key, "base64");
}

/** @param {number} ms */
function later(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
