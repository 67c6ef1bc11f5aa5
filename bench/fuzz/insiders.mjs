import { once } from "node:events";
import { connectSecurely } from "#stellium/cluster/control/secure";
import { framed, greeting, hello, hostileFrame } from "./messages.mjs";

/** @typedef {import("./random.mjs").Random} Random */
/** @typedef {import("#stellium/cluster/token").JoinToken} JoinToken */

const host = "127.0.0.1";
/** Milliseconds without an answer after which a frame is taken for an incomplete one. */
const patienceMs = 25;
const ping = framed({ type: "ping", sequence: 0 });

/**
 * A device that knows the token and has introduced itself.
 * @param {number} port @param {JoinToken} token @param {string} [name]
 */
export async function insider(port, token, name = hello.name) {
  const socket = connectSecurely({ host, port }, token.credential).on("error", () => {});
  await once(socket, "secureConnect");
  socket.write(Buffer.concat([greeting, framed({ ...hello, name })]));
  return socket;
}

/**
 * Devices that know the token, and send so many frames that they should not. Returns how often one was dropped for it.
 * @param {number} port @param {JoinToken} token @param {number} count @param {Random} random
 */
export async function insiders(port, token, count, random) {
  const state = { left: count, dropped: 0 };
  const one = async () => {
    while (state.left > 0) await misbehave(await insider(port, token), state, random);
  };
  await Promise.all([one(), one(), one(), one()]);
  return state.dropped;
}

/**
 * Sends frames until the other side has had enough, each with a ping behind it: the pong says that it was taken.
 * @param {import("node:tls").TLSSocket} socket @param {{ left: number, dropped: number }} state @param {Random} random
 */
async function misbehave(socket, state, random) {
  let closed = false;
  let answered = () => {};
  socket.on("data", (chunk) => chunk.includes('"pong"') && answered());
  socket.once("close", () => {
    closed = true;
    answered();
  });
  while (state.left > 0 && !closed) {
    state.left--;
    const answer = new Promise((resolve) => {
      answered = () => resolve(true);
    });
    socket.write(Buffer.concat([hostileFrame(random), ping]));
    if (!(await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, patienceMs, false))]))) break;
  }
  if (closed) state.dropped++;
  socket.destroy();
}
