// node bench/collectives/tables.mjs RESULTS.json: the tables of docs/collectives.md, to stdout.
import { bestOf, milliseconds, singles, sizeOf } from "./report.mjs";
import { readResults } from "./results.mjs";

/** @typedef {import("./cell.mjs").Row} Row */

const { rows } = readResults(process.argv[2] ?? "");
const isDetailed = (/** @type {Row} */ row) => row.mbit === 300 && row.latencyMs <= 1;
process.stdout.write(`${detailed(rows.filter(isDetailed))}\n\n${brief(rows)}\n\n${summary(rows)}\n`);

/** @param {Row[]} all */
function detailed(all) {
  const titles = ["N", "ms", "payload", ...singles, "auto", "its pick", "auto / best", "pick / best", "repeats"];
  return table(titles, all.map(details));
}

/** @param {Row} row */
function details(row) {
  const { ranks, latencyMs, bytes, measured, fitted, pick, repeats } = row;
  const { name: best, autoRatio, pickRatio } = bestOf(row);
  const times = singles.map((name) => {
    const time = milliseconds(measured[name]);
    return `${name === best ? `**${time}**` : time} (${milliseconds(fitted[name])})`;
  });
  const ratios = [autoRatio.toFixed(2), pickRatio.toFixed(2)];
  return [ranks, latencyMs, sizeOf(bytes), ...times, milliseconds(measured["auto"]), pick, ...ratios, repeats];
}

/** @param {Row[]} all */
function brief(all) {
  const payloads = [...new Set(all.map(({ bytes }) => bytes))].sort((a, b) => a - b);
  const keyOf = (/** @type {Row} */ { ranks, latencyMs, mbit }) => [ranks, latencyMs, mbit].join(" ");
  const lines = [...new Set(all.map(keyOf))].map((key) => {
    const found = payloads.map((bytes) => all.find((row) => keyOf(row) === key && row.bytes === bytes));
    return [...key.split(" "), ...found.map((row) => (row ? autoOf(row) : ""))];
  });
  return table(["N", "ms", "Mbit/s", ...payloads.map(sizeOf)], lines);
}

/** @param {Row} row */
function autoOf(row) {
  const { name, autoRatio, pickRatio } = bestOf(row);
  const better = name === row.pick ? "" : `, ${name} best`;
  return `${row.pick} ${milliseconds(row.measured["auto"])} (${autoRatio.toFixed(2)}, ${pickRatio.toFixed(2)}${better})`;
}

/** @param {Row[]} all */
function summary(all) {
  const bests = all.map((row) => ({ ...bestOf(row), repeats: row.repeats }));
  const many = bests.filter(({ repeats }) => repeats >= 5);
  return [bests, many].map((some) => `${some.length} rows: ${within(some)}`).join("; with 5 repeats or more, ");
}

/** @param {ReturnType<typeof bestOf>[]} bests */
function within(bests) {
  const count = (/** @type {"autoRatio" | "pickRatio"} */ key) => bests.filter((best) => best[key] <= 1.1).length;
  return `auto within 10 % of the best in ${count("autoRatio")}, its pick in ${count("pickRatio")}`;
}

/** @param {string[]} titles @param {(string | number)[][]} lines */
function table(titles, lines) {
  const rule = titles.map(() => "---");
  return [titles, rule, ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
