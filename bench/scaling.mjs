import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { startLan } from "./lan/lan.mjs";
import { decode } from "./scaling/cluster.mjs";
import { readOptions } from "./scaling/options.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { withModel } from "./single/modelFile.mjs";
import { median } from "./single/statistics.mjs";

/** @typedef {import("./scaling/options.mjs").Options} Options */
/** @typedef {import("./scaling/cluster.mjs").Answer} Answer */

/**
 * `scaling`: decodes on one device and on several of an emulated LAN in turns, each with the same share of a core, and
 * prints the ratio next to what the model predicts.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  const interruption = abortOnSignals();
  try {
    const { shape, type, dir } = options;
    await withModel({ shape, type, dir, signal: interruption.signal }, (model) =>
      compareAll(model, options, interruption.signal),
    );
  } finally {
    interruption.end();
  }
}

/** @param {string} model @param {Options} options @param {AbortSignal} signal */
async function compareAll(model, options, signal) {
  const { ranks, latencyMs, mbit, dir } = options;
  const folder = mkdtempSync(join(dir, "stellium-scaling-"));
  const lan = await startLan({ devices: Math.max(...ranks), latencyMs, mbit });
  try {
    for (const size of ranks) {
      const answers = await compare(lan, size, { ...options, model, folder, signal });
      process.stdout.write(describe(size, options, answers));
    }
  } finally {
    await lan[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * One device and several, in turns. The first time, which cuts the slices, does not count, and may use whole cores.
 * @param {Awaited<ReturnType<typeof startLan>>} lan
 * @param {number} size
 * @param {Options & { model: string, folder: string, signal: AbortSignal }} options
 */
async function compare(lan, size, options) {
  /** @type {{ alone: Answer[], together: Answer[] }} */
  const answers = { alone: [], together: [] };
  await decode(lan, size, { ...options, tokens: 2, cpu: 0 });
  for (let round = 0; round < options.rounds; round++) {
    process.stderr.write(`${size} devices: round ${round + 1} of ${options.rounds}\n`);
    answers.alone.push(await decode(lan, 1, options));
    answers.together.push(await decode(lan, size, options));
  }
  return answers;
}

/**
 * @param {number} size
 * @param {Options} options
 * @param {{ alone: Answer[], together: Answer[] }} answers
 */
function describe(size, { shape, type, latencyMs, mbit, cpu }, { alone, together }) {
  const [one, many] = [middle(alone), middle(together)];
  const rank0 = shareOfRank0(together);
  const predicted = one.computeMs * rank0 + many.collectives * latencyMs;
  const ratios = ratiosOf(together, alone);
  return [
    `\n${shape} ${type}, ${size} devices of ${cpu} of a core, ${latencyMs} ms and ${mbit} Mbit/s`,
    `  one device   ${one.perSecond.toFixed(2)} tokens/s: compute ${one.computeMs.toFixed(0)} ms of ${one.ms.toFixed(0)} ms`,
    `  ${size} devices    ${many.perSecond.toFixed(2)} tokens/s: compute ${many.computeMs.toFixed(0)} ms, sums ${many.sumMs.toFixed(0)} ms (${many.collectives.toFixed(0)} of them) of ${many.ms.toFixed(0)} ms`,
    `  ratio        ${median(ratios).toFixed(2)} (${ratios.map((ratio) => ratio.toFixed(2)).join(", ")}); predicted ${(one.ms / predicted).toFixed(2)}: rank 0 holds ${(100 * rank0).toFixed(0)} % of the weights, and a sum takes one latency`,
    "",
  ].join("\n");
}

/** What each round found, in ascending order. @param {Answer[]} together @param {Answer[]} alone */
function ratiosOf(together, alone) {
  const perSecond = (/** @type {Answer | undefined} */ answer) => answer?.timings.predicted_per_second ?? Number.NaN;
  return together.map((answer, round) => perSecond(answer) / perSecond(alone[round])).toSorted((a, b) => a - b);
}

/**
 * Of one token, the medians over the rounds; computing is that of rank 0, which has the head. What a device counts
 * includes the prompt, which is one step as each further token is.
 * @param {Answer[]} answers
 */
function middle(answers) {
  const of = (/** @type {(answer: Answer) => number} */ figure) => median(answers.map(figure));
  const perToken = (/** @type {"compute_ms" | "collective_ms"} */ name) =>
    of(({ devices: [first], timings: { prompt_ms, predicted_ms, predicted_n } }) => {
      const part = (first?.[name] ?? Number.NaN) / (prompt_ms + predicted_ms);
      return (part * predicted_ms) / predicted_n;
    });
  return {
    perSecond: of(({ timings }) => timings.predicted_per_second),
    ms: of(({ timings }) => timings.predicted_ms / timings.predicted_n),
    ...{ computeMs: perToken("compute_ms"), sumMs: perToken("collective_ms") },
    collectives: of(({ devices, timings }) => (devices[0]?.collective_count ?? Number.NaN) / timings.predicted_n),
  };
}

/** @param {Answer[]} together */
function shareOfRank0([first]) {
  const bytes = first?.devices.map(({ weight_bytes }) => weight_bytes) ?? [];
  return (bytes[0] ?? Number.NaN) / bytes.reduce((sum, value) => sum + value, 0);
}
