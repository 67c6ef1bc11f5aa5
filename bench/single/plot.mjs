// node bench/single/plot.mjs RESULTS.json PLOT.svg: draws how many tokens a second each model writes, beside the limit.
import { writeFileSync } from "node:fs";
import { readResults } from "./results.mjs";

/** @typedef {import("./summary.mjs").ThreadFigures} ThreadFigures */
/** @typedef {{ label: string, limit: number, bars: number[] }} Group Tokens per second. */

const [left, width, barHeight, gap, top] = [205, 545, 12, 14, 60];
const series = [
  { name: "Stellium", color: "#1f6fb2" },
  { name: "llama.cpp's fastest decile", color: "#8a8a8a" },
  { name: "node-llama-cpp", color: "#c9c9c9" },
];

const [source = "", target = ""] = process.argv.slice(2);
if (!target) throw new Error("node bench/single/plot.mjs RESULTS.json PLOT.svg");
writeFileSync(target, picture(readResults(source).models.flatMap(groupsOf)));

/** @param {import("./results.mjs").ModelResult} model @returns {Group[]} */
function groupsOf({ shape, type, threads }) {
  return threads.map((figures) => ({
    label: `${shape} ${type}, ${figures.threads} thread${figures.threads > 1 ? "s" : ""}`,
    limit: figures.ours.decode.perSecond / figures.ours.memoryShare,
    bars: [figures.ours.decode.medianMs, figures.theirs.step.fastestDecileMs, figures.theirs.generate.medianMs].map(
      (ms) => 1000 / ms,
    ),
  }));
}

/** @param {Group[]} groups */
function picture(groups) {
  const most = Math.max(...groups.flatMap(({ limit, bars }) => [limit, ...bars]));
  const groupHeight = series.length * barHeight + gap;
  const height = top + groups.length * groupHeight + 10;
  const style = 'font-family="sans-serif" font-size="12" fill="#222"';
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${left + width + 60} ${height}" ${style}>`;
  const body = groups.map((group, i) => drawn(group, top + i * groupHeight, width / most));
  const title = text(10, 20, "Decoding: tokens per second");
  return `${head}\n<rect width="100%" height="100%" fill="#fff"/>\n${title}\n${legend()}\n${body.join("\n")}\n</svg>\n`;
}

/** @param {Group} group @param {number} y @param {number} scale */
function drawn({ label, limit, bars }, y, scale) {
  const boxes = bars.map((value, i) => {
    const [at, long] = [y + i * barHeight, value * scale];
    const box = `<rect x="${left}" y="${at}" width="${long.toFixed(1)}" height="${barHeight - 2}" fill="${series[i]?.color}"/>`;
    return `${box}${text(left + long + 4, at + 9, value.toFixed(1), 10)}`;
  });
  const [x, end] = [(left + limit * scale).toFixed(1), y + bars.length * barHeight];
  const line = `<line x1="${x}" y1="${y - 2}" x2="${x}" y2="${end}" stroke="#b4541a" stroke-width="2"/>`;
  return [text(10, y + 22, label), ...boxes, line].join("\n");
}

function legend() {
  const boxes = series.map(({ name, color }, i) => {
    const x = left + i * 180;
    return `<rect x="${x}" y="34" width="12" height="12" fill="${color}"/>${text(x + 17, 44, name)}`;
  });
  const x = left + series.length * 180 - 20;
  const limit = `<line x1="${x}" y1="33" x2="${x}" y2="47" stroke="#b4541a" stroke-width="2"/>${text(x + 7, 44, "memory's rate")}`;
  return [...boxes, limit].join("\n");
}

/** @param {number} x @param {number} y @param {string} content @param {number} [size] */
function text(x, y, content, size) {
  return `<text x="${x.toFixed(1)}" y="${y}"${size ? ` font-size="${size}"` : ""}>${content}</text>`;
}
