import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { machine } from "../single/machine.mjs";

/** @typedef {import("./cell.mjs").Row} Row */
/** @typedef {import("./loopback.mjs").Placement} Placement */
/** @typedef {{ machine?: ReturnType<typeof machine>, loopback: Placement[], rows: Row[] }} Results */

/** @param {string} path @returns {Results} */
export function readResults(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { loopback: [], rows: [] };
}

/** Adds rows to a file, in place of those of the same cell and payload. @param {string} path @param {Row[]} rows */
export function saveRows(path, rows) {
  const results = readResults(path);
  const fresh = new Set(rows.map(keyOf));
  const kept = results.rows.filter((row) => !fresh.has(keyOf(row)));
  save(path, { ...results, rows: [...kept, ...rows].sort(byCell) });
}

/** @param {string} path @param {Placement[]} loopback */
export function saveLoopback(path, loopback) {
  save(path, { ...readResults(path), loopback });
}

/** @param {Row} row */
function keyOf({ ranks, latencyMs, mbit, bytes, wire, cipher }) {
  return [ranks, latencyMs, mbit, bytes, wire, cipher].join(" ");
}

/** @param {Row} a @param {Row} b */
function byCell(a, b) {
  return a.ranks - b.ranks || a.latencyMs - b.latencyMs || a.mbit - b.mbit || a.bytes - b.bytes;
}

/** One line for each row. @param {string} path @param {Results} results */
function save(path, { loopback, rows }) {
  const list = (/** @type {unknown[]} */ items) => items.map((item) => `\n${JSON.stringify(item)}`).join(",");
  const about = JSON.stringify(machine());
  writeFileSync(path, `{"machine":${about},\n"loopback":[${list(loopback)}],\n"rows":[${list(rows)}]}\n`);
}
