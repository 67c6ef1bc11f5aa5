import { once } from "node:events";
import { compiled } from "./compile.mjs";

/**
 * @typedef {Awaited<ReturnType<typeof import("./lan.mjs").startLan>>} Lan
 * @typedef {import("./device.mjs").Device} Device
 * @typedef {import("./state.mjs").FullLink} FullLink
 * @typedef {{ minUs: number, medianUs: number, meanUs: number, p99Us: number, maxUs: number }} Quantiles
 * @typedef {Quantiles & { sent: number, received: number }} Times
 * @typedef {{ bytes: number, mbit: number }} Stream
 */

const port = 7700;
const segment = 1448;
const headers = 66;
const gap = 24;
const echoBytes = 98;
const fullFrame = segment + headers + gap;

/**
 * The round trip of a small frame (ICMP echo, which the far kernel answers).
 * @param {Device} from
 * @param {Device} to
 * @param {{ count?: number, gapMs?: number }} [options]
 * @returns {Promise<Times>}
 */
export function ping(from, to, { count = 20, gapMs = 10 } = {}) {
  return probe(from, "ping", to.address, count, gapMs);
}

/**
 * As many bytes there and back over one TCP connection.
 * @param {Device} from
 * @param {Device} to
 * @param {{ bytes?: number, count?: number }} [options]
 * @returns {Promise<Times>}
 */
export function pingPong(from, to, { bytes = 16_384, count = 100 } = {}) {
  return withServer(to, () => probe(from, "pingpong", to.address, port, bytes, count));
}

/**
 * What TCP gets through, measured where it arrives.
 * @param {Device} from
 * @param {Device} to
 * @param {{ seconds?: number }} [options]
 * @returns {Promise<Stream>}
 */
export function stream(from, to, { seconds = 2 } = {}) {
  return withServer(to, () => probe(from, "stream", to.address, port, seconds));
}

/**
 * The model's own values for the three measurements, without any time that software takes.
 * @param {FullLink} from
 * @param {FullLink} to
 * @param {number} [bytes]
 */
export function expected(from, to, bytes = 16_384) {
  const wire = bytes + Math.ceil(bytes / segment) * (headers + gap);
  const last = Math.min(wire, fullFrame);
  const [there, back] = [slower(from, to), slower(to, from)];
  return {
    pingUs: trip(from, to, echoBytes + gap, echoBytes + gap) + trip(to, from, echoBytes + gap, echoBytes + gap),
    pingPongUs: trip(from, to, wire, last) + trip(to, from, wire, last),
    streamMbit: (there * segment) / fullFrame,
    streamBackMbit: (back * segment) / fullFrame,
  };
}

/**
 * The slower link is busy with all the bytes, and the faster with one frame before or after.
 * @param {FullLink} from
 * @param {FullLink} to
 * @param {number} all
 * @param {number} one
 */
function trip(from, to, all, one) {
  const [slow, fast] = [slower(from, to), Math.max(rate(from.upMbit), rate(to.downMbit))];
  const jitter = (from.jitterMs / 2) * 1000;
  return ((from.latencyMs + to.latencyMs) / 2) * 1000 + jitter + (all * 8) / slow + (one * 8) / fast;
}

/** @param {FullLink} from @param {FullLink} to */
function slower(from, to) {
  return Math.min(rate(from.upMbit), rate(to.downMbit));
}

/** @param {number} mbit */
function rate(mbit) {
  return mbit || Number.POSITIVE_INFINITY;
}

/**
 * @template T
 * @param {Device} device
 * @param {() => Promise<T>} measure
 */
async function withServer(device, measure) {
  const server = device.spawn(compiled("probe"), ["serve", String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(server, "exit");
  try {
    await Promise.race([once(/** @type {import("node:stream").Readable} */ (server.stdout), "data"), ended]);
    return await measure();
  } finally {
    server.kill();
    await ended;
  }
}

/** @param {Device} device @param {(string | number)[]} words */
async function probe(device, ...words) {
  const child = device.spawn(compiled("probe"), words.map(String), { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (chunk) => {
    text += chunk;
  });
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`probe ${words.join(" ")} failed on device ${device.index}`);
  return JSON.parse(text);
}
