import { FrameDecoder } from "#stellium/cluster/control/frames";
import { framed, greeting } from "./messages.mjs";

/** @typedef {import("node:tls").TLSSocket} TLSSocket */
/** @typedef {{ type: string, phase?: string, dataPort?: number, blocks?: number[], sequence?: number }} Message */

/** Milliseconds for an answer: a device may be busy with what it was sent. */
const patienceMs = 3000;

/** One end of an authenticated connection that may say anything. */
export class Conversation {
  #socket;
  #decoder = new FrameDecoder();
  /** @type {Message[]} */
  #heard = [];
  #wake = () => {};
  #pings = 0;
  closed = false;

  /** @param {TLSSocket} socket */
  constructor(socket) {
    this.#socket = socket;
    socket.on("error", () => {}).on("data", (chunk) => this.#hear(chunk));
    socket.once("close", () => {
      this.closed = true;
      this.#wake();
    });
    this.raw(greeting);
  }

  /** @param {Uint8Array} bytes */
  raw(bytes) {
    if (!this.closed) this.#socket.write(bytes);
  }

  /** @param {unknown} message */
  send(message) {
    this.raw(framed(message));
  }

  /** Takes the first message of one of these types; undefined if none arrives in time. @param {string[]} types */
  async next(...types) {
    const late = setTimeout(() => this.#wake(), patienceMs);
    const deadline = performance.now() + patienceMs;
    try {
      for (;;) {
        const at = this.#heard.findIndex(({ type }) => types.includes(type));
        if (at >= 0) return this.#heard.splice(at, 1)[0];
        if (this.closed || performance.now() >= deadline) return undefined;
        await new Promise((resolve) => {
          this.#wake = () => resolve(undefined);
        });
      }
    } finally {
      clearTimeout(late);
    }
  }

  /** True if the other end still answers after what it was sent. */
  async goesOn() {
    const sequence = ++this.#pings;
    this.send({ type: "ping", sequence });
    for (;;) {
      const pong = await this.next("pong");
      if (pong === undefined || pong.sequence === sequence) return pong !== undefined;
    }
  }

  /** Resolves when all that was sent has left. */
  flushed() {
    return new Promise((resolve) => this.#socket.write("", () => resolve(undefined)));
  }

  close() {
    this.#socket.destroy();
  }

  /** @param {Buffer} chunk */
  #hear(chunk) {
    try {
      for (const frame of this.#decoder.push(chunk)) {
        if (frame.type === "json") this.#heard.push(JSON.parse(frame.payload.toString()));
      }
    } catch {
      this.close();
    }
    // What comes without end is not kept.
    this.#heard.splice(0, this.#heard.length - 1000);
    this.#wake();
  }
}
