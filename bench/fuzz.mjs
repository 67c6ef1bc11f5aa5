import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { JoinToken } from "#stellium/cluster/token";
import { AttackedDevice } from "./fuzz/attackedDevice.mjs";
import { LiveCluster, model } from "./fuzz/cluster.mjs";
import { EvilCoordinator, Script } from "./fuzz/evilCoordinator.mjs";
import { evilWorkers } from "./fuzz/evilWorker.mjs";
import { insiders } from "./fuzz/insiders.mjs";
import { ask, linkAmongStrangers, linkedPair, sendHostileFrame } from "./fuzz/links.mjs";
import { Random } from "./fuzz/random.mjs";
import { misdeeds, replace } from "./fuzz/replacement.mjs";
import { overhear, strangers } from "./fuzz/strangers.mjs";

/** @typedef {{ seed: number, count: number }} Amount */

/**
 * `fuzz`: hostile frames and messages against live devices, which have to answer rightly afterwards. With `--peers N`: that
 * many messages of a device that knows the token and has a place, in each direction, and nothing else.
 * @param {string[]} args
 */
export async function run(args) {
  const text = /** @type {const} */ ({ type: "string" });
  const options = { count: text, seed: text, peers: text };
  const { count = "100000", seed = String(Date.now() % 1e6), peers } = parseArgs({ args, options }).values;
  const part = (/** @type {number} */ of) => ({ seed: Number(seed), count: Math.ceil(Number(count) * of) });
  process.stdout.write(`seed ${seed}\n`);
  if (peers !== undefined) {
    const amount = { seed: Number(seed), count: Number(peers) };
    tell("workers that have a place", await attackAsWorker(amount));
    return tell("a coordinator", await attackAsCoordinator(amount, 4));
  }
  tell("strangers and insiders at a live cluster", await attackCluster(part(0.1), part(0.6)));
  tell("places taken by insiders", await takePlaces(Number(seed), Object.keys(misdeeds)));
  tell("strangers at links, hostile frames over links", await attackLinks(part(0.25), part(0.05)));
}

/**
 * @param {string} what @param {object} outcome
 */
function tell(what, outcome) {
  process.stdout.write(`${what}: ${JSON.stringify(outcome)}\n`);
}

/** Milliseconds between two lines of progress. */
const tellEvery = 30_000;

/**
 * Tells how many messages have been sent, until the work has ended.
 * @param {EvilCoordinator} evil @param {number} count @param {Promise<void>} work
 */
async function whileTelling({ outcome }, count, work) {
  const start = performance.now();
  const timer = setInterval(() => {
    const rate = outcome.sent / ((performance.now() - start) / 1000);
    const left = Math.ceil((count - outcome.sent) / rate / 60);
    process.stderr.write(`${outcome.sent} of ${count} messages, ${rate.toFixed(0)}/s, about ${left} min left\n`);
  }, tellEvery);
  try {
    await work;
  } finally {
    clearInterval(timer);
  }
}

/**
 * Strangers, and then devices that know the token, at the control port of a cluster at work.
 * @param {Amount} outside @param {Amount} inside
 */
export async function attackCluster(outside, inside) {
  return await withCluster(["first", "second"], async (cluster) => {
    const expected = await cluster.ask();
    const before = await cluster.memory();
    const recorded = [await overhear(cluster.port, cluster.token)];
    await strangers(cluster.port, outside.count, new Random(outside.seed), recorded);
    const afterStrangers = await cluster.ask();
    const dropped = await insiders(cluster.port, cluster.token, inside.count, new Random(inside.seed));
    const afterInsiders = await cluster.ask();
    const grown = (await cluster.memory()) - before;
    return { expected, afterStrangers, afterInsiders, dropped, grown, sound: cluster.sound };
  });
}

/**
 * Each kind of misdeed once, in a place that one device has lost while another keeps its own.
 * @param {number} seed @param {readonly string[]} names of misdeeds
 */
export async function takePlaces(seed, names) {
  return await withCluster(["first", "other"], async (cluster) => {
    const random = new Random(seed);
    const expected = await cluster.ask();
    let worker = cluster.workers[0];
    /** @type {{ misdeed: string, lost: string, answer: string }[]} */
    const outcomes = [];
    for (const misdeed of names) {
      const act = misdeeds[misdeed];
      if (!act || !worker) throw new RangeError(`there is no misdeed "${misdeed}"`);
      const { lost, answer, sound } = await replace(cluster, worker, act, random);
      worker = sound;
      outcomes.push({ misdeed, lost, answer });
    }
    return { expected, outcomes };
  });
}

/**
 * Workers that have a place, and say what they should not.
 * @param {Amount} amount
 */
export async function attackAsWorker({ seed, count }) {
  const names = ["first", "second"];
  return await withCluster(names, async (cluster) => {
    const expected = await cluster.ask();
    const before = await cluster.ownMemory();
    const lost = await cluster.lose(cluster.workers.splice(0));
    const attack = await evilWorkers(cluster.port, cluster.token, count, names.length, new Random(seed));
    const grown = (await cluster.ownMemory()) - before;
    for (const name of names) cluster.join(name);
    return { expected, lost, answer: await cluster.ask(), grown, ...attack, sound: cluster.sound };
  });
}

/**
 * A coordinator that says what it should not to some devices, which join an honest one in the end.
 * @param {Amount} amount @param {number} count of devices
 */
export async function attackAsCoordinator(amount, count = 1) {
  const folder = mkdtempSync(join(tmpdir(), "stellium-fuzz-"));
  const token = JoinToken.generate();
  const script = await Script.of(model);
  const evil = new EvilCoordinator(token, script, new Random(amount.seed));
  const port = await evil.listen();
  const devices = Array.from({ length: count }, (_, i) => new AttackedDevice(port, token, join(folder, `device ${i}`)));
  const ended = Promise.race(devices.map((device) => device.ended));
  /** @type {LiveCluster | undefined} */
  let cluster;
  try {
    await Promise.race([whileTelling(evil, amount.count, evil.send(amount.count)), ended]);
    await evil.close();
    const used = await Promise.all(devices.map((device) => device.used()));
    cluster = new LiveCluster(join(folder, "honest"), count, { token, port });
    await Promise.race([cluster.complete(), ended]);
    const answer = await cluster.ask();
    return { ...evil.outcome, failures: devices.map(({ failures }) => failures), used, answer };
  } finally {
    await cluster?.[Symbol.asyncDispose]();
    for (const device of devices) device.end();
    await script.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Greetings while links are opened once, for which there are 20 s. */
const perOpening = 1000;

/**
 * Greetings of strangers while links are opened, and then frames of a rank that holds the keys.
 * @param {Amount} greetings @param {Amount} frames
 */
export async function attackLinks(greetings, frames) {
  const ranks = await linkedPair();
  try {
    const expected = await ask(ranks);
    const random = new Random(frames.seed);
    const outside = new Random(greetings.seed);
    let afterStrangers = true;
    for (let done = 0; done < greetings.count; done += perOpening) {
      await linkAmongStrangers(ranks, Math.min(perOpening, greetings.count - done), outside);
      afterStrangers &&= same(await ask(ranks), expected);
    }
    /** @type {Record<string, number>} */
    const outcomes = {};
    for (let i = 0; i < frames.count; i++) {
      const outcome = await sendHostileFrame(ranks, random);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    }
    await ranks.link({});
    return { afterStrangers, outcomes, afterFrames: same(await ask(ranks), expected) };
  } finally {
    await ranks[Symbol.asyncDispose]();
  }
}

/** @param {Float32Array} a @param {Float32Array} b */
function same(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/**
 * @template T
 * @param {readonly string[]} names of workers @param {(cluster: LiveCluster) => Promise<T>} use
 */
async function withCluster(names, use) {
  const folder = mkdtempSync(join(tmpdir(), "stellium-fuzz-"));
  const cluster = await LiveCluster.start(folder, names);
  try {
    return await use(cluster);
  } finally {
    await cluster[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  }
}
