import { join } from "node:path";
import { askChild } from "../child.mjs";
import { dropCache } from "./dropCache.mjs";
import { openEngine } from "./rounds.mjs";

/** @typedef {import("./rounds.mjs").Subject} Subject */
/** @typedef {{ threads: number, ms: number, fromDisk: boolean }} ColdLoad */

/**
 * @typedef {object} ColdSamples
 * @property {{ ms: number, fromDisk: boolean }[]} reads Plain sequential ones.
 * @property {ColdLoad[]} loads
 */

const reader = join(import.meta.dirname, "coldRead.mjs");

/** A read counts as cold where the disk gave this much of the file. */
const coldShare = 0.9;

/**
 * Alternates plain reads of the file with loads of it, each after the system has forgotten the file.
 * @param {Subject} subject
 * @returns {Promise<ColdSamples | undefined>} undefined where a file cannot be dropped from memory
 */
export async function coldSamples(subject) {
  /** @type {ColdSamples} */
  const samples = { reads: [], loads: [] };
  for (let round = 0; round < subject.options.rounds; round++) {
    if (!(await dropCache(subject.path))) return undefined;
    samples.reads.push(await coldRead(subject));
    for (const threads of subject.options.threads) {
      await dropCache(subject.path);
      samples.loads.push(await coldLoad(subject, threads));
    }
  }
  return samples;
}

/** @param {Subject} subject */
async function coldRead({ path, fileBytes, signal }) {
  const { ms, diskBytes } = await askChild("reading the model", reader, { path }, signal);
  return { ms, fromDisk: diskBytes >= coldShare * fileBytes };
}

/** @param {Subject} subject @param {number} threads @returns {Promise<ColdLoad>} */
async function coldLoad(subject, threads) {
  const { stellium, loaded } = await openEngine(subject, threads);
  await stellium.close();
  return { threads, ms: loaded.loadMs, fromDisk: loaded.loadDiskBytes >= coldShare * loaded.weightBytes };
}
