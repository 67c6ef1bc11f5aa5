import { once } from "node:events";
import { connect, createServer } from "node:net";
import { connectSecurely } from "#stellium/cluster/control/secure";
import { framed, greeting, hello } from "./messages.mjs";

/** @typedef {import("./random.mjs").Random} Random */

const host = "127.0.0.1";
const atOnce = 48;

/**
 * Connections to a port from someone who does not know the token. Resolves when all have been dropped, or given up.
 * @param {number} port @param {number} count @param {Random} random @param {readonly Uint8Array[]} recorded from others
 */
export async function strangers(port, count, random, recorded) {
  for (let done = 0; done < count; done += atOnce) {
    const some = Array.from({ length: Math.min(atOnce, count - done) }, () => stranger(port, random, recorded));
    await Promise.all(some);
  }
}

/** @param {number} port @param {Random} random @param {readonly Uint8Array[]} recorded */
async function stranger(port, random, recorded) {
  const socket = connect(port, host).on("error", () => {});
  socket.resume();
  const bytes = strangerBytes(random, recorded);
  const [manner, pieces] = [random.below(8), 1 + random.below(6)];
  await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
  // Some are slow, some hang up in the middle, and some stay, half open, until they are thrown out for others.
  if (manner === 0) await dribble(socket, bytes, pieces);
  else socket.write(bytes);
  if (manner === 1) socket.destroy();
  else if (manner > 2) socket.end();
  if (manner === 2) setTimeout(() => socket.destroy(), 1000).unref();
  else if (!socket.closed) await Promise.race([once(socket, "close").catch(() => {}), patience(socket)]);
}

/** @param {import("node:net").Socket} socket @param {Uint8Array} bytes @param {number} pieces */
async function dribble(socket, bytes, pieces) {
  for (let i = 0; i < pieces && !socket.destroyed; i++) {
    socket.write(bytes.subarray(i, i + 1));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A socket that is left open for its own good. @param {import("node:net").Socket} socket */
async function patience(socket) {
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
}

/** @param {Random} random @param {readonly Uint8Array[]} recorded @returns {Uint8Array} */
function strangerBytes(random, recorded) {
  const length = 1 + random.below(2000);
  const record = Buffer.from([22, 3, 1, length >> 8, length & 255, 1, 0, 0, length & 255]);
  const kinds = [
    () => random.bytes(length),
    () => Buffer.concat([record, random.bytes(length)]),
    () => Buffer.from("GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
    () => Buffer.concat([greeting, framed(hello)]),
    () => Buffer.from([255, 255, 255, 255, 0, 123]),
    () => (recorded.length > 0 ? random.of(recorded) : random.bytes(80)),
    () => (recorded.length > 0 ? random.flipped(random.of(recorded)) : random.bytes(80)),
    () => (recorded.length > 0 ? random.cut(random.of(recorded)) : Buffer.alloc(1)),
  ];
  return random.of(kinds)();
}

/**
 * What a device that knows the token sends when it introduces itself, as someone on the way sees it.
 * @param {number} port @param {import("#stellium/cluster/token").JoinToken} token
 */
export async function overhear(port, token) {
  /** @type {Buffer[]} */
  const heard = [];
  const proxy = createServer((near) => {
    const far = connect(port, host);
    near.on("data", (chunk) => heard.push(chunk));
    near
      .on("error", () => {})
      .pipe(far.on("error", () => {}))
      .pipe(near);
  });
  proxy.listen(0, host);
  await once(proxy, "listening");
  const through = /** @type {import("node:net").AddressInfo} */ (proxy.address());
  const socket = connectSecurely({ host, port: through.port }, token.credential).on("error", () => {});
  await once(socket, "secureConnect");
  socket.write(Buffer.concat([greeting, framed(hello)]));
  await once(socket, "data");
  socket.destroy();
  proxy.close();
  return Buffer.concat(heard);
}
