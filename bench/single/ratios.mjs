/**
 * @typedef {object} Ratio
 * @property {number} threads
 * @property {string} name
 * @property {number} value
 * @property {"at least" | "at most" | undefined} bound Absent where it is for information.
 * @property {number | undefined} target
 * @property {"pass" | "miss" | "info"} verdict
 */

/** @typedef {import("./summary.mjs").ThreadFigures} ThreadFigures */
/** @typedef {{ name: string, bound?: "at least" | "at most", target?: number, of: (figures: ThreadFigures) => number }} Criterion */

/** @type {Criterion[]} */
const criteria = [
  {
    name: "decode / node-llama-cpp generate (medians)",
    ...{ bound: "at least", target: 1 },
    of: ({ ours, theirs }) => theirs.generate.medianMs / ours.decode.medianMs,
  },
  {
    name: "decode / llama.cpp step with head (fastest deciles)",
    ...{ bound: "at least", target: 0.95 },
    of: ({ ours, theirs }) => theirs.step.fastestDecileMs / ours.decode.fastestDecileMs,
  },
  {
    name: "decode / llama.cpp step without head (fastest deciles; it does less)",
    of: ({ ours, theirs }) => theirs.headless.fastestDecileMs / ours.decode.fastestDecileMs,
  },
  {
    name: "prefill / llama.cpp prefill to its first token",
    ...{ bound: "at least", target: 1 },
    of: ({ ours, theirs }) => theirs.prefill.medianMs / ours.prefill.medianMs,
  },
  {
    name: "peak RSS / (weights + KV + 180 MB)",
    ...{ bound: "at most", target: 1 },
    of: ({ ours }) => ours.peakRssBytes / ours.budgetBytes,
  },
  { name: "decode's reads / memory speed", of: ({ ours }) => ours.memoryShare },
];

/** @type {Criterion} */
const coldCriterion = {
  name: "cold load / cold read of the file",
  ...{ bound: "at most", target: 1.2 },
  of: ({ cold }) => (cold?.fromDisk ? cold.loadMs / cold.readMs : Number.NaN),
};

/** @param {import("./measure.mjs").ModelFigures} figures @returns {Ratio[]} */
export function ratiosOf({ threads }) {
  return threads.flatMap((figures) => [...criteria, coldCriterion].map((criterion) => ratio(criterion, figures)));
}

/** @param {Criterion} criterion @param {ThreadFigures} figures @returns {Ratio} */
function ratio({ name, bound, target, of }, figures) {
  const value = of(figures);
  return { threads: figures.threads, name, value, bound, target, verdict: verdict(value, bound, target) };
}

/** @param {number} value @param {Ratio["bound"]} bound @param {number | undefined} target */
function verdict(value, bound, target) {
  if (!bound || target === undefined || Number.isNaN(value)) return "info";
  return (bound === "at least" ? value >= target : value <= target) ? "pass" : "miss";
}
