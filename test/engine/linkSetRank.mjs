import { parentPort, workerData } from "node:worker_threads";
import { openCollective } from "#stellium/collective/collective";
import { Group } from "#stellium/collective/group";
import { openWire } from "#stellium/collective/wire";
import { openLinkSet } from "#stellium/engine/links/linkSets";

// One rank, as a thread: opens sets of links and adds up over them, in the order it is told, and reports what came of it.

/** @type {import("./linkSetRanks.ts").RankData} */
const { listener, setup, acts } = workerData;
/** @type {Map<string, Group>} */
const groups = new Map();
const outcomes = acts.map(outcomeOf);
for (const group of groups.values()) group[Symbol.dispose]();
parentPort?.postMessage(outcomes);

/** @param {import("./linkSetRanks.ts").Act} act */
function outcomeOf(act) {
  try {
    return act.open === undefined ? sumOver(act.sum) : openSet(act.open, act.deadlineMs ?? 10_000);
  } catch (error) {
    const { code, values } = /** @type {import("#stellium/errors").StelliumError} */ (error);
    return { code, ...values };
  }
}

/** @param {import("#stellium/engine/links/linkSets").LinkSet} set @param {number} deadlineMs */
function openSet(set, deadlineMs) {
  const { rank, size, wire } = setup;
  const links = openLinkSet(set, listener, setup, deadlineMs);
  groups.set(set, new Group({ rank, size, links, wire: openWire(wire), maxElements: 100, deadlineMs: 10_000 }));
  return "open";
}

/** The sum of the ranks' numbers, counted from 1. @param {string} set */
function sumOver(set) {
  const group = groups.get(set);
  if (group === undefined) return "closed";
  const values = new Float32Array(100).fill(setup.rank + 1);
  openCollective("exchange", group).allReduce(values);
  return values[99];
}
