// node bench/single/tables.mjs RESULTS.json: the tables of docs/performance.md, to stdout.
import { readResults } from "./results.mjs";

/** @typedef {import("./summary.mjs").ThreadFigures} ThreadFigures */
/** @typedef {import("./results.mjs").ModelResult} ModelResult */
/** @typedef {(figures: ThreadFigures, model: ModelResult) => string} Cell */

const { models } = readResults(process.argv[2] ?? "");
const rows = models.flatMap((model) => model.threads.map((figures) => ({ model, figures })));
process.stdout.write(`${[decoding(), prompts(), memory()].join("\n\n")}\n`);

function decoding() {
  return table({
    "Stellium, median": ({ ours }) => rate(ours.decode.medianMs),
    "llama.cpp, user": ({ theirs }) => rate(theirs.generate.medianMs),
    ratio: ({ ours, theirs }) => ratio(theirs.generate.medianMs, ours.decode.medianMs),
    "Stellium, fastest decile": ({ ours }) => rate(ours.decode.fastestDecileMs),
    "llama.cpp, real": ({ theirs }) => rate(theirs.step.fastestDecileMs),
    "ratio ": ({ ours, theirs }) => ratio(theirs.step.fastestDecileMs, ours.decode.fastestDecileMs),
    "of memory's rate": ({ ours }) => `${(100 * ours.memoryShare).toFixed(0)} %`,
  });
}

function prompts() {
  return table({
    Stellium: ({ ours }) => ours.prefill.perSecond.toFixed(1),
    "llama.cpp": ({ theirs }) => theirs.prefill.perSecond.toFixed(1),
    ratio: ({ ours, theirs }) => ratio(theirs.prefill.medianMs, ours.prefill.medianMs),
  });
}

function memory() {
  return table({
    "peak RSS": ({ ours }) => megabytes(ours.peakRssBytes),
    "weights + KV + 180 MB": ({ ours }) => megabytes(ours.budgetBytes),
    "llama.cpp": ({ theirs }) => megabytes(theirs.peakRssBytes),
    "cold load": ({ cold }) => (cold ? seconds(cold.loadMs) : ""),
    "cold read": ({ cold }) => (cold ? seconds(cold.readMs) : ""),
    ratio: ({ cold }) => (cold?.fromDisk ? ratio(cold.loadMs, cold.readMs) : ""),
  });
}

/** @param {Record<string, Cell>} columns */
function table(columns) {
  const titles = ["shape", "type", "threads", ...Object.keys(columns).map((title) => title.trim())];
  const lines = rows.map(({ model, figures }) => {
    const cells = Object.values(columns).map((cell) => cell(figures, model));
    return [model.shape, model.type, figures.threads, ...cells];
  });
  return [titles, titles.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** @param {number} ms */
function rate(ms) {
  return (1000 / ms).toFixed(2);
}

/** @param {number} a @param {number} b */
function ratio(a, b) {
  return (a / b).toFixed(2);
}

/** @param {number} bytes */
function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** @param {number} ms */
function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}
