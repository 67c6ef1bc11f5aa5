import { randomBytes } from "node:crypto";
import { Engine } from "#stellium/engine/engine";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";

/** @typedef {import("#stellium/engine/protocol").EngineOptions} EngineOptions */
/** @typedef {import("#stellium/engine/links/rankLinks").LinkSetup} LinkSetup */
/** @typedef {Partial<Pick<LinkSetup, "wire" | "collective" | "cipher">>} LinkOptions How ranks are to be linked. */

/** Engines of all ranks of a model, each on a thread of this process, linked over loopback. */
export class Ranks {
  /** @type {readonly Engine[]} */
  engines;
  /** @type {Promise<unknown>[]} How following ended, by rank; rank 0 does not follow. */
  followed = [];

  /** @param {readonly Engine[]} engines */
  constructor(engines) {
    this.engines = engines;
  }

  get first() {
    const [first] = this.engines;
    if (first === undefined) throw new RangeError("there are no ranks");
    return first;
  }

  /**
   * Starts one engine for each of the relative shares; several of them want `link` then.
   * @param {string} path
   * @param {readonly number[]} shares
   * @param {EngineOptions} options
   */
  static async start(path, shares, options) {
    const whole = describe(await readGguf(path));
    const plan = planShares(whole, shares);
    const descriptions = shares.map((_, rank) => rankDescription(whole, plan, rank));
    const origin = /** @type {const} */ ({ kind: "gguf", files: whole.files });
    const engines = descriptions.map((description) => Engine.start({ description, options, origin }));
    return new Ranks(await Promise.all(engines));
  }

  /**
   * Opens the links, with new keys, in place of those that are open, and has all ranks but the first one follow.
   * @param {LinkOptions} options
   */
  async link({ wire = "f32", collective = "exchange", cipher = "aes-256-gcm" }) {
    await this.unlink();
    const ports = await Promise.all(this.engines.map((engine) => engine.listen("127.0.0.1")));
    const peers = peersOf(ports);
    const size = ports.length;
    const linked = this.engines.map((engine, rank) =>
      engine.link({ rank, size, peers: peers[rank] ?? [], cipher, wire, collective }),
    );
    await Promise.all(linked);
    for (const engine of this.engines.slice(1)) this.followed.push(engine.follow().catch((error) => error));
  }

  /** Closes the links. */
  async unlink() {
    for (const engine of this.engines) engine.cutLinks();
    await Promise.all(this.followed.splice(0));
  }

  async [Symbol.asyncDispose]() {
    await this.unlink();
    await Promise.all(this.engines.map((engine) => engine[Symbol.asyncDispose]()));
  }
}

/**
 * What each rank is told of the others.
 * @param {readonly number[]} ports
 */
function peersOf(ports) {
  const keys = ports.map(() => ports.map(() => randomBytes(32).toString("base64")));
  const key = (/** @type {number} */ from, /** @type {number} */ to) => keys[from]?.[to] ?? "";
  return ports.map((_, rank) =>
    ports
      .map((port, peer) => ({
        rank: peer,
        host: "127.0.0.1",
        port,
        sendKey: key(rank, peer),
        receiveKey: key(peer, rank),
      }))
      .filter((peer) => peer.rank !== rank),
  );
}
