import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { machine } from "./machine.mjs";

/** @typedef {import("./measure.mjs").ModelFigures & { ratios: import("./ratios.mjs").Ratio[], settings: object }} ModelResult */
/** @typedef {{ machine?: ReturnType<typeof machine>, models: ModelResult[] }} Results */

/** @param {string} path @returns {Results} */
export function readResults(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { models: [] };
}

/** Adds a model's figures to a file, in place of those of the same model; a line each. @param {string} path @param {ModelResult} model */
export function saveModel(path, model) {
  const keyOf = (/** @type {ModelResult} */ { shape, type }) => `${shape} ${type}`;
  const others = readResults(path).models.filter((other) => keyOf(other) !== keyOf(model));
  const lines = [...others, model].sort((a, b) => a.fileBytes - b.fileBytes || a.type.localeCompare(b.type));
  const list = lines.map((each) => `\n${JSON.stringify(each)}`).join(",");
  writeFileSync(path, `{"machine":${JSON.stringify(machine())},"models":[${list}\n]}\n`);
}
