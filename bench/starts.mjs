import { once } from "node:events";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { generateModel } from "./generateModel.mjs";
import { inGroups, replyOf, requireGroups, startIn } from "./memory/contained.mjs";
import { number, whole } from "./numbers.mjs";
import { dropCache } from "./single/dropCache.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { median } from "./single/statistics.mjs";

/**
 * @typedef {import("./starts/startedEngine.mjs").WeightsFrom} WeightsFrom
 * @typedef {import("./starts/startedEngine.mjs").StartReply} StartReply
 * @typedef {{ model: string, cacheDir: string, threads: number, ranks: number, cpu: number, signal: AbortSignal }} Subject
 */

const options = /** @type {const} */ ({
  shape: { type: "string", default: "tinyllama-1.1b" },
  type: { type: "string", default: "Q4_0" },
  layers: { type: "string" },
  cpu: { type: "string", default: "0.3" },
  threads: { type: "string", default: "1" },
  ranks: { type: "string", default: "1" },
  rounds: { type: "string", default: "5" },
  dir: { type: "string", default: tmpdir() },
});

/** @type {Record<WeightsFrom, string>} */
const names = {
  converted: "the GGUF file, converted",
  slice: "a kept slice, through the page cache",
  direct: "a kept slice, past the page cache",
  plain: "the GGUF file, nothing converted",
};
const script = join(import.meta.dirname, "starts/startedEngine.mjs");

/**
 * `starts`: what a start would take that reads a kept slice, against one that converts the model's file, in turns.
 * @param {string[]} args
 */
export async function run(args) {
  const { shape, type, layers, dir, ...limits } = parseArgs({ args, options }).values;
  requireGroups();
  const folder = mkdtempSync(join(dir, "stellium-bench-"));
  const interruption = abortOnSignals();
  try {
    const model = join(folder, "model.gguf");
    await generateModel({ path: model, shape, type, layers: layers === undefined ? undefined : whole(layers) });
    const threads = whole(limits.threads, 1, 64);
    const ranks = whole(limits.ranks, 1, 64);
    const subject = { model, cacheDir: join(folder, "cache"), threads, ranks, signal: interruption.signal };
    const rounds = whole(limits.rounds, 1, 100);
    const cpu = number(limits.cpu, 0.01, 1024);
    for (const cold of [false, true]) {
      const found = await measure({ ...subject, cpu }, rounds, cold);
      print(
        `${shape} ${type}, rank 0 of ${ranks}, ${cpu} cores, page cache ${cold ? "cold" : "warm"}, medians of ${rounds}`,
        found,
      );
    }
  } finally {
    interruption.end();
    rmSync(folder, { recursive: true });
  }
}

/** @param {Subject} subject @param {number} rounds @param {boolean} cold */
async function measure(subject, rounds, cold) {
  // Some columns of a matrix are cut only for a slice: the plain file serves a whole model alone.
  const kinds = /** @type {WeightsFrom[]} */ (Object.keys(names)).filter(
    (kind) => subject.ranks === 1 || kind !== "plain",
  );
  const { slicePath = "" } = await start({ ...subject, cpu: 0 }, "slice");
  const found = new Map(kinds.map((kind) => [kind, /** @type {StartReply[]} */ ([])]));
  for (let round = 0; round < rounds; round++) {
    for (const kind of round % 2 ? kinds.toReversed() : kinds) {
      for (const path of [subject.model, slicePath]) await (cold ? dropCache(path) : fillCache(path));
      found.get(kind)?.push(await start(subject, kind));
    }
  }
  return found;
}

/** @param {string} path */
async function fillCache(path) {
  const stream = createReadStream(path, { highWaterMark: 2 ** 20 }).resume();
  await once(stream, "close");
}

/** @param {Subject} subject @param {WeightsFrom} from @returns {Promise<StartReply>} */
async function start({ cpu, signal, ...subject }, from) {
  return await inGroups(1, { cpu }, async ([group]) => {
    const input = JSON.stringify({ ...subject, from });
    return replyOf(`a start from ${names[from]}`, await startIn(group, [script], { signal, input }).outcome);
  });
}

/** Throws where a slice gives another token than the file it was cut from. @param {string} title @param {Map<WeightsFrom, StartReply[]>} found */
function print(title, found) {
  const tokens = new Set(
    ["converted", "slice", "direct"]
      .flatMap((kind) => found.get(/** @type {WeightsFrom} */ (kind)) ?? [])
      .map(({ token }) => token),
  );
  if (tokens.size > 1) throw new Error(`the first token differs: ${[...tokens].join(", ")}`);
  const middle = (/** @type {StartReply[]} */ replies, /** @type {"readyMs" | "cpuMs"} */ key) =>
    median(replies.map((reply) => reply[key])) / 1000;
  const base = found.get("converted") ?? [];
  const lines = [...found].map(([kind, replies]) => {
    const [ready, cpu] = [middle(replies, "readyMs"), middle(replies, "cpuMs")];
    const ratio = ready / middle(base, "readyMs");
    return `| ${names[kind]} | ${ready.toFixed(2)} | ${ratio.toFixed(2)} | ${cpu.toFixed(2)} |`;
  });
  const head = ["| weights from | ready after, s | ratio | CPU, s |", "| --- | --- | --- | --- |"];
  process.stdout.write(`${[title, "", ...head, ...lines, ""].join("\n")}\n`);
}
