import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { dataFrame } from "#stellium/cluster/control/frames";
import { coordinatorMessage } from "#stellium/cluster/control/messages";
import { createServer, secureAcceptor } from "#stellium/cluster/control/secure";
import { outlineOf } from "#stellium/cluster/rankPlan";
import { openLinkSet } from "#stellium/engine/links/linkSets";
import { commandInts, encodeCommand } from "#stellium/engine/rankCommand";
import { describe } from "#stellium/model/support";
import { closeSocket, listenOn } from "#stellium/native/sockets";
import { rankDescription, slicedModel } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { ModelSource } from "#stellium/weights/modelSource";
import { cutPlan } from "#stellium/weights/sliceLayout";
import { readSlices } from "#stellium/weights/sliceReader";
import { Conversation } from "./conversation.mjs";
import { anyFrame, mutated } from "./mutation.mjs";

/** @typedef {import("./random.mjs").Random} Random */
/** @typedef {import("#stellium/cluster/token").JoinToken} JoinToken */
/** @typedef {import("#stellium/cluster/control/messages").CoordinatorMessage} CoordinatorMessage */
/** @typedef {{ sent: number, conversations: number, loaded: number, linked: number }} Outcome */

const host = "127.0.0.1";
const cipher = /** @type {const} */ ("aes-256-gcm");
const limits = { slots: 2, context: 64, batch: 16, outputs: 2 };
/** Messages of one conversation. */
const mostMessages = 20;

/** The messages of an honest coordinator to its only worker, as a base for mutations. */
export class Script {
  /** @param {ModelSource} source @param {string} hash */
  constructor(source, hash) {
    const whole = describe(source.model);
    const { content, blocks } = cutPlan(slicedModel(rankDescription(whole, planShares(whole, [1, 1]), 1)), {
      hash,
      name: "",
    });
    this.source = source;
    this.blocks = blocks;
    this.embeddingLength = whole.hyperparameters.embeddingLength;
    this.welcome = { type: "welcome", rank: 1, size: 2, session: "0123456789abcdef" };
    this.plan = {
      ...{ type: "plan", rank: 1, size: 2 },
      slice: { model: hash, share: createHash("sha256").update(JSON.stringify(content.share)).digest("hex") },
      description: outlineOf(source.model, hash),
      shares: { relative: [1, 1], head: "coordinator" },
      engine: { context: limits.context, batch: limits.batch, kvType: "f16", slots: limits.slots, storedCells: 0 },
      listen: { host, port: 0 },
    };
  }

  /** @param {string} path */
  static async of(path) {
    const source = await ModelSource.open(path);
    return new Script(source, await source.hash());
  }

  async close() {
    await this.source[Symbol.asyncDispose]();
  }

  /** The messages and data that bring a block. @param {number} index @param {number} stream */
  async block(index, stream) {
    /** @type {Uint8Array[]} */
    const pieces = [];
    const files = await this.source.files();
    for await (const piece of readSlices(files, this.blocks[index] ?? [])) pieces.push(piece.slice());
    const bytes = Buffer.concat(pieces);
    return {
      announced: { type: "slice-block", index, stream, bytes: bytes.length },
      bytes,
      ended: { type: "slice-checksum", stream, sha256: createHash("sha256").update(bytes).digest("hex") },
    };
  }
}

/** A coordinator that knows the token and is up to no good. Any number of devices may join it. */
export class EvilCoordinator {
  #server;
  #sockets = new Set();
  #count = 0;
  #done = () => {};
  /** @type {Outcome} */
  outcome = { sent: 0, conversations: 0, loaded: 0, linked: 0 };

  /** @param {JoinToken} token @param {Script} script @param {Random} random */
  constructor(token, script, random) {
    const accept = secureAcceptor(() => token.credential.key);
    this.#server = createServer((raw) => {
      const { secure: socket } = accept(raw);
      this.#sockets.add(socket.on("error", () => {}).once("close", () => this.#sockets.delete(socket)));
      socket.once("secure", () => void this.#talk(new Conversation(socket), script, random));
    });
  }

  async listen() {
    this.#server.listen(0, host);
    await once(this.#server, "listening");
    return /** @type {import("node:net").AddressInfo} */ (this.#server.address()).port;
  }

  /** Resolves when this many messages have been sent. @param {number} count */
  async send(count) {
    this.#count = count;
    await new Promise((resolve) => {
      this.#done = () => resolve(undefined);
    });
  }

  async close() {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** @param {Conversation} conversation @param {Script} script @param {Random} random */
  async #talk(conversation, script, random) {
    this.outcome.conversations++;
    const talk = new Talk(conversation, script, random, this.outcome);
    try {
      await talk.run();
    } finally {
      conversation.close();
      if (this.outcome.sent >= this.#count) this.#done();
    }
  }
}

/** One conversation with a device, which leaves what is honest at one of its stages. */
class Talk {
  /** @param {Conversation} conversation @param {Script} script @param {Random} random @param {Outcome} outcome */
  constructor(conversation, script, random, outcome) {
    this.conversation = conversation;
    this.script = script;
    this.random = random;
    this.outcome = outcome;
  }

  async run() {
    const { conversation, script, random } = this;
    if ((await conversation.next("hello")) === undefined) return;
    const stage = random.of(["welcome", "plan", "plan", "plan", "slice", "talk", "talk", "links", "plane", "plane"]);
    if (stage === "welcome") return await this.#babble();
    conversation.send(script.welcome);
    this.#say(stage === "plan" ? this.#otherPlan() : script.plan, stage === "plan");
    if (!(await this.#load(stage === "slice"))) return;
    this.outcome.loaded++;
    const listening = await conversation.next("ready");
    if (listening?.dataPort === undefined) return;
    if (stage === "plane") return await this.#plane();
    const links = this.#links(9);
    if (stage === "links") this.#say(mutated(links, random), true);
    await this.#babble();
  }

  /** A plan of which some part is another, or all sizes of the model. */
  #otherPlan() {
    const { random, script } = this;
    const { plan } = script;
    const part = random.of(
      /** @type {const} */ (["description", "tensors", "sizes", "engine", "shares", "plan", "hash"]),
    );
    if (part === "plan") return mutated(plan, random);
    // One model after the other, each of which is to be stored.
    const hash = random.bytes(32).toString("hex");
    if (part === "hash")
      return { ...plan, slice: { ...plan.slice, model: hash }, description: { ...plan.description, hash } };
    if (part === "engine" || part === "shares") return { ...plan, [part]: mutated(plan[part], random) };
    const { description } = plan;
    if (part === "sizes") return { ...plan, description: enlarged(description, random) };
    const changed =
      part === "tensors"
        ? { ...description, tensors: mutated(description.tensors, random) }
        : mutated(description, random);
    return { ...plan, description: changed };
  }

  /** @param {unknown} message @param {boolean} evil */
  #say(message, evil) {
    if (evil) this.outcome.sent++;
    this.conversation.send(message);
  }

  /** Brings the slice that is asked for, if any. Returns whether the device has loaded it. @param {boolean} evil */
  async #load(evil) {
    const answer = await this.conversation.next("slice-request", "ready", "failed");
    if (answer?.type === "slice-request") {
      for (const [stream, index] of (answer.blocks ?? []).entries()) {
        if (this.conversation.closed) return false;
        await this.#bring(index, stream, evil && this.random.below(3) === 0);
      }
    }
    const ready = answer?.type === "ready" ? answer : await this.conversation.next("ready", "failed");
    return ready?.phase === "loaded";
  }

  /** @param {number} index @param {number} stream @param {boolean} evil */
  async #bring(index, stream, evil) {
    const { conversation, random } = this;
    const { announced, bytes, ended } = await this.script.block(index, stream);
    const changed = evil ? random.below(5) : -1;
    if (evil) this.outcome.sent++;
    conversation.send(changed === 0 ? mutated(announced, random) : announced);
    const data = changed === 1 ? random.of([bytes.subarray(1), random.flipped(bytes), Buffer.alloc(1e6)]) : bytes;
    const from = changed === 2 ? random.of([1, 2 ** 40, bytes.length]) : 0;
    const to = changed === 3 ? random.below(2 ** 32) : stream;
    for (let at = 0; at < data.length; at += 2 ** 18) {
      conversation.raw(Buffer.concat(dataFrame(to, from + at, data.subarray(at, at + 2 ** 18))));
    }
    conversation.send(changed === 4 ? mutated(ended, random) : ended);
  }

  /** Says anything, in any order. */
  async #babble() {
    const { conversation, random, script } = this;
    /** @type {unknown[]} */
    const phrases = [
      script.welcome,
      script.plan,
      { type: "slice-block", index: 0, stream: 0, bytes: 1e6 },
      { type: "slice-checksum", stream: 0, sha256: "ab".repeat(32) },
      ...["stats-request", "profile-request", "trace-request"].map((type) => ({ type })),
      { type: "clock-request", sequence: 4 },
    ];
    for (let left = mostMessages; left > 0 && !conversation.closed; left--) {
      this.outcome.sent++;
      conversation.raw(anyFrame(phrases, coordinatorMessage, random));
      if (!(await conversation.goesOn())) return;
    }
  }

  /** @param {number} port */
  #links(port) {
    const [sendKey, receiveKey] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")];
    const peers = [{ rank: 0, host, port, sendKey, receiveKey }];
    return { type: "links", rank: 1, size: 2, peers, cipher, wire: "f32", collective: "exchange" };
  }

  /** Links up, and then says over the links what no rank 0 does: several times, since the device offers new ones. */
  async #plane() {
    const { conversation, random } = this;
    for (let round = 0; round < 3 && !conversation.closed; round++) {
      const listener = listenOn(host);
      try {
        const links = this.#links(listener.port);
        conversation.send(links);
        await conversation.flushed();
        const [{ sendKey, receiveKey, ...peer }] = /** @type {[any]} */ (links.peers);
        const own = { ...links, rank: 0, peers: [{ ...peer, rank: 1, sendKey: receiveKey, receiveKey: sendKey }] };
        const [link] = openLinkSet("engine", listener.socket, /** @type {any} */ (own), 5000).values();
        this.outcome.linked++;
        for (let left = 5; left > 0; left--) {
          this.outcome.sent++;
          const frame = link?.outgoing(planeBytes(random, this.script.embeddingLength));
          if (frame === undefined) break;
          link?.stage(frame, random.of(/** @type {const} */ ([1, 1, 1, 1, 2])));
          if (!link?.flush()) break;
        }
        link?.close();
      } catch {
        // The device had ended the links.
      } finally {
        closeSocket(listener.socket);
      }
      let next = await conversation.next("ready", "failed");
      if (next?.phase === "linked") next = await conversation.next("ready", "failed");
      if (next?.phase !== "listening") return;
    }
  }
}

/**
 * A model of the same form with terabytes of weights: what is as long as one of its dimensions becomes longer.
 * @param {Script["plan"]["description"]} description @param {Random} random
 */
function enlarged(description, random) {
  const sizes = ["embedding_length", "feed_forward_length", "vocabulary"];
  const factor = random.of([2, 64, 2 ** 10, 2 ** 14, 2 ** 20]);
  const chosen = random.of(sizes);
  const [key, before] =
    Object.entries(description.metadata).find(([name]) => name.endsWith(`.${chosen}`)) ??
    /** @type {const} */ (["", 0]);
  const rows = description.tensors.find(({ name }) => name === "token_embd.weight")?.shape[1] ?? 0;
  const length = key === "" ? rows : Number(before);
  const tensors = description.tensors.map((tensor) => ({
    ...tensor,
    shape: tensor.shape.map((each) => (each === length ? each * factor : each)),
  }));
  return {
    ...description,
    tensors,
    metadata: { ...description.metadata, ...(key !== "" && { [key]: length * factor }) },
  };
}

/** A command, maybe one that does not fit; or rows of an embedding, or a part of a sum. @param {Random} random @param {number} width */
function planeBytes(random, width) {
  const ints = new Int32Array(commandInts(limits.slots));
  const extremes = [0, 1, 2, 15, 16, 63, 64, 65, -1, 2 ** 31 - 1, -(2 ** 31)];
  const kinds = [
    () =>
      encodeCommand(
        { step: [{ slot: 0, tokens: 1 + random.below(16), position: 0, outputs: 1, hidden: false }] },
        ints,
      ),
    () =>
      encodeCommand({ move: "restore", slot: random.below(3), key: random.below(9), cells: random.below(70) }, ints),
    () => encodeCommand({ move: "copy", from: random.below(3), to: random.below(3), cells: random.below(70) }, ints),
    () => encodeCommand({ move: "save", slot: random.below(3), key: random.below(9), cells: random.below(70) }, ints),
    () => ints.set(ints.map(() => random.of(extremes))),
  ];
  random.of(kinds)();
  const rows = new Float32Array(width * (1 + random.below(16))).fill(random.of([0, 1, Number.NaN, 1e38]));
  const bytes = (/** @type {Int32Array | Float32Array} */ { buffer, byteLength }) =>
    new Uint8Array(buffer, 0, byteLength);
  return random.of([
    () => bytes(ints),
    () => bytes(ints),
    () => bytes(rows),
    () => random.bytes(1 + random.below(300)),
  ])();
}
