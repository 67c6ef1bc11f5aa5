// node docs/scripts/stepPicture.mjs TRACE.json PICTURE.svg [LAYERS]: draws the first layers (4) of one step that decodes,
// as `--trace` recorded it.
import { readFileSync, writeFileSync } from "node:fs";

/** @typedef {{ name: string, cat: string, ph: string, pid: number, tid: number, ts: number, dur: number, args: Record<string, any> }} Entry */
/** @typedef {{ from: number, to: number }} Period In microseconds. */

const [left, width, rowHeight, top] = [150, 900, 30, 64];
/** What is drawn, in the order in which one is drawn over the other; how thick within a row; and what it is called. */
const kinds = [
  {
    kind: "compute",
    matches: /^(attention|ffn|head|blocks|embedding)$/,
    color: "#1f6fb2",
    thick: 1,
    label: "computing",
  },
  { kind: "sum", matches: /^sum /, color: "#e0a458", thick: 1, label: "adding up" },
  { kind: "wait", matches: /^wait for rank$/, color: "#d9d9d9", thick: 0.7, label: "waiting for a rank" },
  { kind: "send", matches: /^send$/, color: "#b4541a", thick: 0.7, label: "sending" },
  { kind: "cipher", matches: /^cipher$/, color: "#8b4fb5", thick: 0.45, label: "encrypting" },
  { kind: "disk", matches: /^(read|verify|wait for disk)/, color: "#2d8a4e", thick: 1, label: "disk" },
];

const [source = "", target = "", layers = "4"] = process.argv.slice(2);
if (!target) throw new Error("node docs/scripts/stepPicture.mjs TRACE.json PICTURE.svg [LAYERS]");
/** @type {Entry[]} */
const entries = JSON.parse(readFileSync(source, "utf8")).traceEvents;
writeFileSync(target, picture(entries, periodOf(entries, Number(layers))));

/**
 * From the beginning of a step of one token to the end of some of its layers, by rank 0's clock.
 * @param {Entry[]} all
 * @param {number} count
 * @returns {Period}
 */
function periodOf(all, count) {
  const steps = all.filter(({ name, pid, args }) => name === "step" && pid === 0 && args["tokens"] === 1);
  const step = steps.at(-2) ?? steps.at(-1);
  if (!step) throw new Error(`${source} has no step that decodes`);
  const inStep = all.filter(({ pid, ts }) => pid === 0 && ts >= step.ts && ts < step.ts + step.dur);
  const last = inStep.find(({ name }) => name === `sum ffn ${count - 1}`) ?? step;
  return { from: step.ts, to: last.ts + last.dur };
}

/** @param {Entry[]} all @param {Period} period */
function picture(all, period) {
  const rows = all.filter(({ name }) => name === "thread_name").sort((a, b) => a.pid - b.pid || a.tid - b.tid);
  const drawn = rows.filter((row) => spansOf(all, row, period).length > 0);
  const height = top + drawn.length * rowHeight + 46;
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${left + width + 20} ${height}" font-family="sans-serif" font-size="12" fill="#222">`;
  const body = drawn.map((row, at) => drawRow(all, row, period, top + at * rowHeight));
  const parts = [`<rect width="100%" height="100%" fill="#fff"/>`, legend(), ...body, axis(period, height - 36)];
  return `${head}\n${parts.join("\n")}\n</svg>\n`;
}

/** @param {Entry[]} all @param {Entry} row @param {Period} period */
function spansOf(all, row, { from, to }) {
  return all.filter(
    ({ ph, pid, tid, ts, dur, name }) =>
      ph === "X" && pid === row.pid && tid === row.tid && ts < to && ts + dur > from && name !== "step",
  );
}

/** @param {Entry[]} all @param {Entry} row @param {Period} period @param {number} y */
function drawRow(all, row, period, y) {
  const spans = spansOf(all, row, period);
  const boxes = kinds.flatMap((kind) =>
    spans
      .filter(({ name, cat }) => kind.matches.test(cat) || kind.matches.test(name))
      .map((span) => box(span, kind, period, y)),
  );
  return `${text(10, y + 18, `rank ${row.pid}, ${row.args["name"]}`)}\n${boxes.join("\n")}`;
}

/** @param {Entry} span @param {typeof kinds[number]} kind @param {Period} period @param {number} y */
function box(span, { color, thick }, period, y) {
  const x = xOf(Math.max(span.ts, period.from), period);
  const wide = Math.max(0.4, xOf(Math.min(span.ts + span.dur, period.to), period) - x);
  const [offset, height] = [((1 - thick) * (rowHeight - 8)) / 2, thick * (rowHeight - 8)];
  const title = `<title>${span.name}: ${(span.dur / 1000).toFixed(3)} ms</title>`;
  return `<rect x="${x.toFixed(1)}" y="${(y + 2 + offset).toFixed(1)}" width="${wide.toFixed(1)}" height="${height.toFixed(1)}" fill="${color}">${title}</rect>`;
}

/** @param {number} time @param {Period} period */
function xOf(time, { from, to }) {
  return left + ((time - from) / (to - from)) * width;
}

function legend() {
  return kinds
    .map(({ color, label }, at) => {
      const x = left + (at % 6) * 160;
      return `<rect x="${x}" y="16" width="14" height="14" fill="${color}"/>${text(x + 20, 28, label)}`;
    })
    .join("\n");
}

/** @param {Period} period @param {number} y */
function axis(period, y) {
  const total = (period.to - period.from) / 1000;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((each) => total / each <= 12) ?? 5000;
  const ticks = Array.from({ length: Math.floor(total / step) + 1 }, (_, i) => i * step);
  return ticks
    .map((tick) => {
      const x = xOf(period.from + tick * 1000, period);
      return `<line x1="${x}" y1="${y}" x2="${x}" y2="${y + 6}" stroke="#222"/>${text(x - 8, y + 20, `${+tick.toFixed(1)} ms`)}`;
    })
    .join("\n");
}

/** @param {number} x @param {number} y @param {string} content */
function text(x, y, content) {
  return `<text x="${x}" y="${y}">${content}</text>`;
}
