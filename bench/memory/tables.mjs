import { patienceMs } from "./llama.mjs";

/** @typedef {import("./limit.mjs").Figures} Figures */
/** @typedef {import("./llama.mjs").Comparison} Comparison */
/** @typedef {import("./design.mjs").DesignFigures} DesignFigures */

const limitHead = [
  ...["model", "devices", "cap", "disk", "cgroup's peak", "peak RSS", "OOM kills", "tokens/s", "computing"],
  ...["from disk", "O_DIRECT", "limit", "measured/limit"],
];

/** @param {Figures[]} rows */
export function limitTable(rows) {
  return table(limitHead, rows.map(limitRow));
}

/** One row in short, as soon as it is measured. @param {Figures} figures */
export function limitLine({ tokenMs, limitMs, ratio, peakBytes, row }) {
  const peak = `${megabytes(peakBytes)} of ${megabytes(row.capBytes)}`;
  return `${(1000 / tokenMs).toFixed(2)} tokens/s, ${ratio.toFixed(2)} x the limit of ${limitMs.toFixed(0)} ms, peak ${peak}`;
}

/** @param {Figures} figures */
function limitRow({ shape, row, ...figures }) {
  const { capBytes, devices, readBps } = row;
  return [
    ...[`${shape} Q4_0`, devices, megabytes(capBytes), readBps ? `${megabytes(readBps)}/s` : "as it is"],
    `${megabytes(figures.peakBytes)} (${((100 * figures.peakBytes) / capBytes).toFixed(0)} %)`,
    ...[megabytes(figures.peakRssBytes), figures.oomKills, (1000 / figures.tokenMs).toFixed(2)],
    ...[`${figures.computeMs.toFixed(0)} ms`, `${(figures.streamedBytes / 1e9).toFixed(2)} GB`],
    `${(figures.directBytesPerSecond / 1e9).toFixed(2)} GB/s`,
    ...[`${figures.limitMs.toFixed(0)} ms`, figures.ratio.toFixed(2)],
  ];
}

/** One comparison in short. @param {Comparison} comparison */
export function llamaLine({ ours, mapped, converted }) {
  return `tokens/s: Stellium ${speed(ours)}, llama.cpp over mmap ${speed(mapped)}, as it comes ${speed(converted)}`;
}

const llamaHead = [
  ...["cap", "Stellium, tokens/s", "llama.cpp over mmap", "ratio", "llama.cpp as it comes"],
  ...["Stellium, to the first token", "llama.cpp over mmap"],
];

/** @param {Comparison[]} rows */
export function llamaTable(rows) {
  return table(
    llamaHead,
    rows.map(({ capBytes, ours, mapped, converted }) => {
      const failed = typeof ours === "string" || typeof mapped === "string";
      const ratio = failed ? "" : (mapped.tokenMs / ours.tokenMs).toFixed(2);
      return [megabytes(capBytes), speed(ours), speed(mapped), ratio, speed(converted), first(ours), first(mapped)];
    }),
  );
}

const failures = { killed: "killed: out of memory", stalled: `no end within ${patienceMs / 1000} s` };

/** @param {Comparison["ours"]} figures */
function speed(figures) {
  return typeof figures === "string" ? failures[figures] : (1000 / figures.tokenMs).toFixed(2);
}

/** @param {Comparison["ours"]} figures */
function first(figures) {
  return typeof figures === "string" ? "" : `${(figures.firstMs / 1000).toFixed(1)} s`;
}

/** @param {DesignFigures[]} rows */
export function designTable(rows) {
  return table(
    ["design", "tokens/s", "of Stellium's", "from disk", "cgroup's peak"],
    rows.map(({ name, tokenMs, diskBytes, peakBytes }) => [
      ...[name, (1000 / tokenMs).toFixed(2), ((rows[0]?.tokenMs ?? Number.NaN) / tokenMs).toFixed(2)],
      ...[`${(diskBytes / 1e9).toFixed(2)} GB`, megabytes(peakBytes)],
    ]),
  );
}

/** @param {string[]} head @param {(string | number)[][]} rows */
function table(head, rows) {
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  return `\n${lines.join("\n")}\n`;
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
