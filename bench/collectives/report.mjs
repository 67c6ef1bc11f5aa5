/** @typedef {import("./cell.mjs").Row} Row */
/** @typedef {import("./loopback.mjs").Placement} Placement */

export const singles = ["star", "exchange", "mesh", "ring", "tree"];
const width = 24;

/** The fastest single collective as it was measured, and how auto and its choice compare with it. @param {Row} row */
export function bestOf({ measured, pick }) {
  const time = (/** @type {string} */ name) => measured[name] ?? Number.NaN;
  const name = singles.reduce((best, other) => (time(other) < time(best) ? other : best));
  return { name, autoRatio: time("auto") / time(name), pickRatio: time(pick) / time(name) };
}

/** @param {Row[]} rows of one cell */
export function printCell(rows) {
  for (const [at, row] of rows.entries()) {
    if (at === 0) printHead(row);
    const times = singles.map((name) => timesOf(row, name).padEnd(width)).join("");
    const { name, autoRatio, pickRatio } = bestOf(row);
    const ratios = `${autoRatio.toFixed(2)} (its pick ${pickRatio.toFixed(2)})`;
    const auto = `${milliseconds(row.measured["auto"])} ${row.pick}`.padEnd(18);
    print(`${sizeOf(row.bytes).padEnd(8)}${times}${auto}${ratios.padEnd(20)}best ${name}, ${row.repeats} repeats`);
  }
}

/** @param {Row} row */
function printHead({ ranks, latencyMs, mbit, wire, cipher, lateUs, dropped }) {
  print(`\n${ranks} ranks, ${latencyMs} ms, ${mbit} Mbit/s, wire ${wire}, cipher ${cipher}`);
  print(
    `ms measured (by the LAN's figures / by the measured links); frames: p99 ${lateUs} us late, ${dropped} dropped`,
  );
  print(
    `${"".padEnd(8)}${singles.map((name) => name.padEnd(width)).join("")}${"auto, its pick".padEnd(18)}auto / best`,
  );
}

/** @param {Row} row @param {string} name */
function timesOf({ measured, nominal, fitted }, name) {
  return `${milliseconds(measured[name])} (${milliseconds(nominal[name])} / ${milliseconds(fitted[name])})`;
}

/** @param {Placement[]} placements */
export function printLoopback(placements) {
  for (const placement of placements) {
    const { bytes, repeats, rawUs, rawCpuUs, wire } = placement;
    print(
      `\nloopback, ${nameOf(placement)}: ${sizeOf(bytes)} there and back ${rawUs} us, ${rawCpuUs} us of a processor`,
    );
    print(`medians of ${repeats}, wire ${wire}; + what the ping-pong does not take`);
    for (const sum of placement.sums) print(`  ${lineOf(sum)}`);
  }
}

/** @param {Placement} placement */
function nameOf({ cores, evictedBytes, build }) {
  const caches = evictedBytes > 0 ? `, after ${sizeOf(evictedBytes)} of other memory` : "";
  return `${cores}${caches}${build === undefined ? "" : `, ${build}`}`;
}

/** @param {Placement["sums"][number]} sum */
function lineOf({ cipher, collective, us, beyondUs, cpuUs, beyondCpuUs, allocatedBytes, ratio, target }) {
  const name = `${collective}, cipher ${cipher}`.padEnd(32);
  const time = `${us} us (+ ${beyondUs})`.padEnd(20);
  const cpu = `CPU ${cpuUs} us (+ ${beyondCpuUs})`.padEnd(24);
  return `${name}${time}${cpu}${`${allocatedBytes} B`.padEnd(9)}${ratio} x, ${verdict(ratio, target)}`;
}

/** @param {number} ratio @param {number} target */
export function verdict(ratio, target) {
  return `target ${target} x ${ratio <= target ? "reached" : "missed"}`;
}

/** @param {number | undefined} ms */
export function milliseconds(ms = Number.NaN) {
  return ms < 10 ? ms.toFixed(2) : ms.toFixed(ms < 100 ? 1 : 0);
}

/** @param {number} bytes */
export function sizeOf(bytes) {
  const units = /** @type {const} */ ([
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ]);
  const unit = units.find(([size]) => bytes >= size && bytes % size === 0);
  return unit ? `${bytes / unit[0]} ${unit[1]}` : `${bytes} B`;
}

/** @param {string} line */
function print(line) {
  process.stdout.write(`${line}\n`);
}
