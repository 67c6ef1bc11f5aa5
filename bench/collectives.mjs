import { measureCell } from "./collectives/cell.mjs";
import { measureLoopback } from "./collectives/loopback.mjs";
import { readOptions } from "./collectives/options.mjs";
import { printCell, printLoopback } from "./collectives/report.mjs";
import { saveLoopback, saveRows } from "./collectives/results.mjs";
import { abortOnSignals } from "./single/interruption.mjs";

/** @typedef {import("./collectives/options.mjs").Options} Options */

/**
 * `collectives`: times one all-reduce over emulated LANs, one at a time, or on loopback against a raw ping-pong.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  const interruption = abortOnSignals();
  try {
    if (options.loopback) await runLoopback(options, interruption.signal);
    else await runCells(options, interruption.signal);
  } finally {
    interruption.end();
  }
}

/** @param {Options} options @param {AbortSignal} signal */
async function runCells(options, signal) {
  for (const cell of cellsOf(options)) {
    const rows = await measureCell(cell, options, signal);
    printCell(rows);
    // After each cell, so that an interrupted run leaves what it has.
    if (options.json) saveRows(options.json, rows);
  }
}

/** @param {Options} options */
function cellsOf({ ranks, latencies, mbits }) {
  return ranks.flatMap((size) =>
    latencies.flatMap((latencyMs) => mbits.map((mbit) => ({ ranks: size, latencyMs, mbit }))),
  );
}

/** @param {Options} options @param {AbortSignal} signal */
async function runLoopback(options, signal) {
  const placements = await measureLoopback(options, signal);
  printLoopback(placements);
  if (options.json) saveLoopback(options.json, placements);
}
