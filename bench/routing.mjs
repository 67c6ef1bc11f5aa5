import { parseArgs } from "node:util";
import { recordedCurve } from "#stellium/library/planning/recordedCurve";

/** Parts of all experts that a pool has room for. */
const parts = [0.05, 0.1, 0.25, 0.5, 0.75];

/**
 * `routing`: what a pool of experts would find in memory, by routing records.
 * @param {string[]} args
 */
export async function run(args) {
  const { positionals } = parseArgs({ args, allowPositionals: true });
  if (positionals.length === 0) throw new Error("routing needs files that `stellium generate --record-routing` wrote");
  const percent = (/** @type {number} */ part) => `${(100 * part).toFixed(0)} %`;
  const rows = [["record", "experts", ...parts.map(percent)]];
  for (const path of positionals) {
    const { facts, curve } = await recordedCurve(path);
    const units = facts.layers.length * facts.experts;
    rows.push([path, String(units), ...parts.map((part) => percent(curve.hitRate(part * units)))]);
  }
  const [head = [], ...body] = rows;
  for (const cells of [head, head.map(() => "---"), ...body]) process.stdout.write(`| ${cells.join(" | ")} |\n`);
}
