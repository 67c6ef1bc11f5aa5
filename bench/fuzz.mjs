import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CacheLimit } from "#stellium/cluster/cacheLimit";
import { JoinToken } from "#stellium/cluster/token";
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
    return tell("a coordinator", await attackAsCoordinator(amount));
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
 * Each kind of misdeed once, in a place that another device has lost.
 * @param {number} seed @param {readonly string[]} names of misdeeds
 */
export async function takePlaces(seed, names) {
  return await withCluster(["first"], async (cluster) => {
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
    for (const worker of cluster.workers.splice(0)) worker.kill("SIGKILL");
    const lost = await cluster.ask();
    const attack = await evilWorkers(cluster.port, cluster.token, count, names.length, new Random(seed));
    const grown = (await cluster.ownMemory()) - before;
    for (const name of names) cluster.join(name);
    return { expected, lost, answer: await cluster.ask(), grown, ...attack, sound: cluster.sound };
  });
}

/** What a device may take while it is attacked, of memory and disk. */
export const attackedLimits = { memory: 400e6, cache: 10e6 };

/**
 * A coordinator that says what it should not to a device, which joins an honest one in the end.
 * @param {Amount} amount
 */
export async function attackAsCoordinator({ seed, count }) {
  const folder = mkdtempSync(join(tmpdir(), "stellium-fuzz-"));
  const [cache, honest] = ["device", "honest"].map((name) => join(folder, name));
  const [token, program] = [JoinToken.generate(), fileURLToPath(new URL("./fuzz/device.mjs", import.meta.url))];
  const script = await Script.of(model);
  const evil = new EvilCoordinator(token, script, new Random(seed));
  const port = await evil.listen();
  const { memory, cache: cacheBytes } = attackedLimits;
  const env = { ...process.env, STELLIUM_LOG: "silent" };
  const device = fork(program, [port, token.text, cache, memory, cacheBytes].map(String), { env });
  /** @type {LiveCluster | undefined} */
  let cluster;
  /** @type {Record<string, number>} */
  const failures = {};
  device.on("message", (/** @type {{ code?: string }} */ { code }) => {
    if (code !== undefined) failures[code] = (failures[code] ?? 0) + 1;
  });
  try {
    await evil.send(count);
    await evil.close();
    const { usedBytes } = await new CacheLimit(cache, cacheBytes).use();
    device.send("report");
    const peak = await peakOf(device);
    cluster = new LiveCluster(honest ?? "", 1, { token, port });
    await cluster.complete();
    return { ...evil.outcome, failures, peak, usedBytes, answer: await cluster.ask(), sound: device.exitCode === null };
  } finally {
    await cluster?.[Symbol.asyncDispose]();
    device.kill("SIGKILL");
    await script.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {import("node:child_process").ChildProcess} device @returns {Promise<number>} */
async function peakOf(device) {
  for (;;) {
    const [report] = await once(device, "message");
    if (report.peak !== undefined) return report.peak;
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
