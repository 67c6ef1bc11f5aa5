import { parseArgs } from "node:util";
import { recordedReplay } from "#stellium/library/planning/recordedReplay";

/** Fractions of all experts that a pool has room for. */
const parts = [0.05, 0.1, 0.25, 0.5, 0.75];

/**
 * `routing`: prints the hit rates of expert pools of several sizes, from routing records.
 * @param {string[]} args
 */
export async function run(args) {
  const { positionals } = parseArgs({ args, allowPositionals: true });
  if (positionals.length === 0) throw new Error("routing needs files that `stellium generate --record-routing` wrote");
  const percent = (/** @type {number} */ part) => `${(100 * part).toFixed(0)} %`;
  const rows = [["record", "experts", ...parts.map(percent)]];
  for (const path of positionals) {
    const replay = await recordedReplay(path);
    rows.push([path, String(replay.units), ...parts.map((part) => percent(replay.hitRate(part * replay.units)))]);
  }
  const [head = [], ...body] = rows;
  for (const cells of [head, head.map(() => "---"), ...body]) process.stdout.write(`| ${cells.join(" | ")} |\n`);
}
