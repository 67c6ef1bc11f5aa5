// node bench/collectives/plot.mjs RESULTS.json PLOT.svg: draws the times at 300 Mbit/s over 0.1 and 1 ms.
import { writeFileSync } from "node:fs";
import { singles, sizeOf } from "./report.mjs";
import { readResults } from "./results.mjs";

/** @typedef {import("./cell.mjs").Row} Row */
/** @typedef {{ left: number, top: number, least: number, most: number, payloads: number[] }} Panel */

const colors = /** @type {Record<string, string>} */ ({
  star: "#b4541a",
  exchange: "#1f6fb2",
  mesh: "#2d8a4e",
  ring: "#8b4fb5",
  tree: "#6b6b6b",
});
const [panelWidth, panelHeight, gapX, gapY, margin] = [250, 200, 60, 60, 60];
const mbit = 300;

const [source = "", target = ""] = process.argv.slice(2);
if (!target) throw new Error("node bench/collectives/plot.mjs RESULTS.json PLOT.svg");
const { rows } = readResults(source);
const drawn = rows.filter((row) => row.mbit === mbit && [0.1, 1].includes(row.latencyMs));
writeFileSync(target, svg(drawn));

/** @param {Row[]} all */
function svg(all) {
  const [sizes, latencies] = [unique(all.map((row) => row.ranks)), unique(all.map((row) => row.latencyMs))];
  const payloads = unique(all.map((row) => row.bytes));
  const panels = latencies.flatMap((latency, line) =>
    sizes.map((size, column) => {
      const own = all.filter((row) => row.latencyMs === latency && row.ranks === size);
      return panel(own, `${size} ranks, ${latency} ms, ${mbit} Mbit/s`, placeOf(own, line, column, payloads));
    }),
  );
  const width = 2 * margin + sizes.length * (panelWidth + gapX);
  const height = 2 * margin + latencies.length * (panelHeight + gapY);
  const style = 'font-family="sans-serif" font-size="11" fill="#222"';
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ${style}>`;
  return `${head}\n<rect width="100%" height="100%" fill="#fff"/>\n${legend()}\n${panels.join("\n")}\n</svg>\n`;
}

/** @param {Row[]} own @param {number} line @param {number} column @param {number[]} payloads @returns {Panel} */
function placeOf(own, line, column, payloads) {
  const times = own.flatMap(({ measured, fitted }) => [...Object.values(measured), ...Object.values(fitted)]);
  const [least, most] = [Math.floor(Math.log10(Math.min(...times))), Math.ceil(Math.log10(Math.max(...times)))];
  return {
    left: margin + column * (panelWidth + gapX),
    top: margin + line * (panelHeight + gapY),
    least,
    most,
    payloads,
  };
}

function legend() {
  const items = singles.map((name, at) => {
    const x = margin + at * 90;
    const line = `<line x1="${x}" y1="20" x2="${x + 20}" y2="20" stroke="${colors[name]}" stroke-width="2"/>`;
    return `${line}${text(x + 25, 24, name)}`;
  });
  const rest = "lines: measured; dashed: predicted from the measured links; rings: auto. One all-reduce, ms";
  return [...items, text(margin + singles.length * 90, 24, rest)].join("\n");
}

/** @param {Row[]} own @param {string} title @param {Panel} place */
function panel(own, title, place) {
  const { left, top } = place;
  const frame = `<rect x="${left}" y="${top}" width="${panelWidth}" height="${panelHeight}" fill="none" stroke="#aaa"/>`;
  const lines = singles.flatMap((name) => [
    path(own, place, colors[name] ?? "", ({ fitted }) => fitted[name], ' stroke-dasharray="3 3" stroke-opacity="0.7"'),
    path(own, place, colors[name] ?? "", ({ measured }) => measured[name], ' stroke-width="2"'),
  ]);
  return [frame, text(left, top - 8, title), ...axes(place), ...lines, ...rings(own, place)].join("\n");
}

/** @param {Panel} place */
function axes(place) {
  const { left, top, least, most, payloads } = place;
  const powers = Array.from({ length: most - least + 1 }, (_, at) => least + at);
  const levels = powers.flatMap((power) => {
    const at = y(10 ** power, place);
    const line = `<line x1="${left}" y1="${at}" x2="${left + panelWidth}" y2="${at}" stroke="#e4e4e4"/>`;
    return [line, text(left - 5, at + 4, String(Number((10 ** power).toPrecision(1))), "end")];
  });
  const marks = payloads.map((bytes) => text(x(bytes, place), top + panelHeight + 16, sizeOf(bytes), "middle"));
  return [...levels, ...marks];
}

/**
 * @param {Row[]} own
 * @param {Panel} place
 * @param {string} color
 * @param {(row: Row) => number | undefined} of
 * @param {string} style
 */
function path(own, place, color, of, style) {
  const points = own.map((row) => `${x(row.bytes, place)},${y(of(row) ?? 1, place)}`);
  return `<polyline points="${points.join(" ")}" fill="none" stroke="${color}"${style}/>`;
}

/** @param {Row[]} own @param {Panel} place */
function rings(own, place) {
  return own.map(({ bytes, measured: { auto = 1 } }) => {
    return `<circle cx="${x(bytes, place)}" cy="${y(auto, place)}" r="5" fill="none" stroke="#000"/>`;
  });
}

/** @param {number} bytes @param {Panel} place */
function x(bytes, { left, payloads }) {
  return Math.round(left + ((payloads.indexOf(bytes) + 0.5) * panelWidth) / payloads.length);
}

/** @param {number} ms @param {Panel} place */
function y(ms, { top, least, most }) {
  return Math.round(top + panelHeight * (1 - (Math.log10(ms) - least) / (most - least)));
}

/** @param {number} left @param {number} base @param {string} words @param {string} anchor */
function text(left, base, words, anchor = "start") {
  return `<text x="${left}" y="${base}" text-anchor="${anchor}">${words}</text>`;
}

/** @param {number[]} values */
function unique(values) {
  return [...new Set(values)].sort((a, b) => a - b);
}
