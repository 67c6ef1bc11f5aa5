/** @typedef {import("./summary.mjs").ThreadFigures} ThreadFigures */
/** @typedef {import("./measure.mjs").ModelFigures} ModelFigures */
/** @typedef {(figures: ThreadFigures) => string} Cell */

/** @type {[label: string, cell: Cell][]} */
const rows = [
  ["Stellium", () => ""],
  ["  prefill to the last token's logits", ({ ours }) => speed(ours.prefill)],
  ["  decode, greedy sampler: median", ({ ours }) => time(ours.decode)],
  ["  decode, greedy sampler: fastest decile", ({ ours }) => decile(ours.decode)],
  ["  load, file in the page cache", ({ ours }) => seconds(ours.loadMs)],
  ["  peak RSS", ({ ours }) => megabytes(ours.peakRssBytes)],
  ["  budget: weights + KV + 180 MB", ({ ours }) => megabytes(ours.budgetBytes)],
  ["llama.cpp", () => ""],
  ["  prefill to the first token", ({ theirs }) => speed(theirs.prefill)],
  ["  generate of node-llama-cpp: median", ({ theirs }) => time(theirs.generate)],
  ["  step with head, greedy: median", ({ theirs }) => time(theirs.step)],
  ["  step with head, greedy: fastest decile", ({ theirs }) => decile(theirs.step)],
  ["  step without head (information): median", ({ theirs }) => time(theirs.headless)],
  ["  step without head: fastest decile", ({ theirs }) => decile(theirs.headless)],
  ["  load, file in the page cache", ({ theirs }) => seconds(theirs.loadMs)],
  ["  peak RSS, mapped file included", ({ theirs }) => megabytes(theirs.peakRssBytes)],
  ["Machine", () => ""],
  ["  memory read speed", ({ memoryBytesPerSecond }) => `${(memoryBytesPerSecond / 1e9).toFixed(1)} GB/s`],
  ["  share of it that decode reaches", ({ ours }) => `${(100 * ours.memoryShare).toFixed(1)} %`],
  ["  cold read of the file, 8 MB at a time", ({ cold }) => (cold ? seconds(cold.readMs) : "not measured")],
  ["  cold load by Stellium", ({ cold }) => (cold ? seconds(cold.loadMs) : "not measured")],
  ["  both from the disk", ({ cold }) => (cold?.fromDisk ? "yes" : "no")],
];

const labelWidth = 46;
const cellWidth = 30;

/** @param {ModelFigures} figures */
export function printTable(figures) {
  const { shape, type, fileBytes, llama, notes, device, layouts, threads } = figures;
  print(`\n${shape} ${type}, ${megabytes(fileBytes)}; llama.cpp ${llama?.release} (${llama?.variant}); ${device}`);
  const counts = Object.entries(layouts ?? {}).map(([layout, count]) => `${count} ${layout}`);
  print(`tensors by layout: ${counts.join(", ")}`);
  for (const note of notes) print(note);
  printRow("", threads, (of) => `${of.threads} thread${of.threads === 1 ? "" : "s"}`);
  for (const [label, cell] of [...rows, ...pollRows(figures)]) printRow(label, threads, cell);
}

/** @param {ModelFigures} figures @param {import("./ratios.mjs").Ratio[]} ratios */
export function printRatios({ shape, type }, ratios) {
  const width = Math.max(...ratios.map(({ name }) => name.length)) + 2;
  for (const { threads, name, value, bound, target, verdict } of ratios) {
    const aim = bound ? `${bound} ${target?.toFixed(2)}` : "";
    const figure = Number.isNaN(value) ? "not measured" : value.toFixed(3);
    print(
      `ratio  ${shape} ${type} t=${threads}  ${name.padEnd(width)}${figure.padStart(12)}  ${aim.padEnd(15)}${verdict}`,
    );
  }
}

/** @param {ModelFigures} figures @returns {[label: string, cell: Cell][]} */
function pollRows({ threads }) {
  const polls = threads[0]?.ours.polls ?? [];
  if (polls.length < 2) return [];
  return polls.map(({ poll }, index) => {
    /** @type {Cell} */
    const cell = ({ ours }) => (ours.polls[index] ? time(ours.polls[index]) : "");
    return [`  decode by Stellium with poll ${poll}: median`, cell];
  });
}

/** @param {string} label @param {ThreadFigures[]} threads @param {Cell} cell */
function printRow(label, threads, cell) {
  print(`${label.padEnd(labelWidth)}${threads.map((figures) => cell(figures).padEnd(cellWidth)).join("")}`.trimEnd());
}

/** @param {import("./summary.mjs").Prefill} prefill */
function speed({ medianMs, perSecond }) {
  return `${perSecond.toFixed(1)} tokens/s, ${seconds(medianMs)}`;
}

/** @param {import("./summary.mjs").Decode} decode */
function time({ medianMs, perSecond }) {
  return `${medianMs.toFixed(2)} ms, ${perSecond.toFixed(2)} tokens/s`;
}

/** @param {import("./summary.mjs").Decode} decode */
function decile({ fastestDecileMs }) {
  return `${fastestDecileMs.toFixed(2)} ms, ${(1000 / fastestDecileMs).toFixed(2)} tokens/s`;
}

/** @param {number} ms */
function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** @param {string} line */
function print(line) {
  process.stdout.write(`${line}\n`);
}
