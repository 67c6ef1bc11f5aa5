import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import type { Trial } from "./calibrate.ts";
import { collectiveNames } from "./collective.ts";
import type { Tuning, TuningMemory } from "./tune.ts";

/** Of such a form are files of this version; others count for nothing. */
const format = 1;
/** Bytes of the longest file that is read: what 64 devices need is a fraction of it. */
const mostBytes = 4 * 1024 * 1024;
/** After so many milliseconds links are measured anew, even if they look as they did: that time may have been a bad one. */
const longestAge = 7 * 86_400_000;

/**
 * A file in which rank 0 keeps what it learned of a network. A file that is damaged, old or cannot be written costs
 * another measurement, and is no error.
 *
 * @param network - what tells this network from others: plain JSON
 */
export function tuningFile(directory: string, network: unknown): TuningMemory {
  const name = createHash("sha256").update(JSON.stringify(network)).digest("hex").slice(0, 32);
  const path = join(directory, `${name}.json`);
  return {
    recall: () => quietly(() => read(path)),
    remember: (tuning) => quietly(() => write(directory, path, tuning)),
  };
}

function quietly<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function read(path: string): Tuning | undefined {
  const { size, mtimeMs } = statSync(path);
  if (size > mostBytes || Math.abs(Date.now() - mtimeMs) > longestAge) return undefined;
  const { format: found, tuning } = JSON.parse(readFileSync(path, "utf8"));
  return found === format && isTuning(tuning) ? tuning : undefined;
}

function write(directory: string, path: string, tuning: Tuning): void {
  makeFolder(directory);
  const partial = `${path}.${process.pid}.part`;
  try {
    writeFileSync(partial, JSON.stringify({ format, tuning }), { mode: fileMode });
    renameSync(partial, path);
  } finally {
    rmSync(partial, { force: true });
  }
}

/** True if a value from a file is what `tune` would have found. */
function isTuning(value: Partial<Tuning> | undefined): value is Tuning {
  const { look, measurements, trials } = value ?? {};
  const size = look?.size;
  if (size === undefined || measurements?.size !== size || !Array.isArray(trials)) return false;
  const tables = [look?.latencyMs, look?.glanceMs, measurements.latencyMs, measurements.bytesPerMs];
  return tables.every((table) => isTable(table, size, size)) && trials.every(isTrial);
}

function isTrial(value: Partial<Trial> | null): boolean {
  const { bytes, factors } = value ?? {};
  return isPositive(bytes) && factors?.length === collectiveNames.length && factors.every(isPositive);
}

/** Positive numbers, but for the diagonal of a table by rank and rank. */
function isTable(table: unknown, rows: number, columns: number): boolean {
  if (!Array.isArray(table) || table.length !== rows) return false;
  return table.every(
    (row: unknown, i) =>
      Array.isArray(row) &&
      row.length === columns &&
      row.every((cell: unknown, j) => isPositive(cell) || (i === j && cell === 0)),
  );
}

function isPositive(value: unknown): boolean {
  return typeof value === "number" && Number.isFinite(value) && value > 0;
}
