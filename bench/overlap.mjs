import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { askAll } from "./collectives/processes.mjs";
import { coreOf } from "./lan/cores.mjs";
import { startLan } from "./lan/lan.mjs";
import { readOptions } from "./overlap/options.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { withModel } from "./single/modelFile.mjs";
import { median } from "./single/statistics.mjs";

/** @typedef {import("./overlap/options.mjs").Options} Options */
/** @typedef {import("./overlap/rank.mjs").Prefill} Prefill */
/** @typedef {{ prefills: Prefill[], peakRssBytes: number }} Reply */

const script = join(import.meta.dirname, "overlap/rank.mjs");
const port = 7711;

/**
 * `overlap`: takes a prompt on several devices of an emulated LAN, one thread each, with communication beside computing
 * and behind it in turns.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  const interruption = abortOnSignals();
  try {
    const { shape, type, dir } = options;
    await withModel({ shape, type, dir, signal: interruption.signal }, async (model) => {
      for (const mbit of options.mbit) {
        const reply = await compare(model, mbit, options, interruption.signal);
        process.stdout.write(describe(mbit, options, reply));
      }
    });
  } finally {
    interruption.end();
  }
}

/** @param {string} model @param {number} mbit @param {Options} options @param {AbortSignal} signal */
async function compare(model, mbit, { ranks, latencyMs, tokens, rounds, wire, cpu }, signal) {
  const lan = await startLan({ devices: ranks, latencyMs, mbit });
  try {
    const addresses = lan.devices.map(({ address: host }) => ({ host, port }));
    const shared = { addresses, secret: randomBytes(32).toString("hex"), model, tokens, rounds, wire };
    const children = lan.devices.map((device, index) =>
      device.spawn(process.execPath, [script], {
        ...{ cpu, cores: coreOf(index) },
        stdio: ["pipe", "pipe", "inherit"],
      }),
    );
    const requests = lan.devices.map((_, rank) => ({ ...shared, rank }));
    const [first] = await askAll(children, requests, signal);
    return /** @type {Reply} */ (first);
  } finally {
    await lan[Symbol.asyncDispose]();
  }
}

/** @param {number} mbit @param {Options} options @param {Reply} reply */
function describe(mbit, { shape, type, ranks, latencyMs, tokens, wire, cpu }, { prefills }) {
  const [without, beside] = [false, true].map((overlap) => prefills.filter((prefill) => prefill.overlap === overlap));
  const ratio = middle(without, "ms") / middle(beside, "ms");
  return [
    `\n${shape} ${type}, ${tokens} tokens, ${ranks} devices of ${cpu} of a core, ${latencyMs} ms and ${mbit} Mbit/s, wire ${wire}`,
    `  one after the other  ${line(without)}`,
    `  overlapping          ${line(beside)}`,
    `  ratio                ${ratio.toFixed(2)}`,
    "",
  ].join("\n");
}

/** @param {Prefill[] | undefined} prefills */
function line(prefills) {
  const figure = (/** @type {keyof Prefill} */ name) => middle(prefills, name).toFixed(0);
  const each = prefills?.map(({ ms }) => ms.toFixed(0)).join(" ");
  return `${figure("ms")} ms (compute ${figure("computeMs")}, wire ${figure("wireMs")}, waiting ${figure("waitMs")}; ${each})`;
}

/** @param {Prefill[] | undefined} prefills @param {keyof Prefill} name */
function middle(prefills, name) {
  return median((prefills ?? []).map((prefill) => Number(prefill[name])));
}
