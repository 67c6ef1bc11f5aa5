import { type CpuAllowance, cpuAllowance } from "../system/cpuAllowance.ts";

/** Below this, threads take longer to meet between operations than to compute them. */
const singleThreadBytes = 64e6;

/** The work that a number of threads is chosen for. */
export interface ThreadDemand {
  /** As the user wants it; what is best if absent. */
  readonly asked?: number | undefined;
  /** Bytes of weights that are computed. */
  readonly weightBytes: number;
  /** Processes on this machine that compute at the same time; 1 if absent. */
  readonly processes?: number | undefined;
}

/** Number of compute threads, and the reason for it. */
export interface ThreadChoice extends CpuAllowance {
  readonly threads: number;
  readonly from: "asked" | "small" | "cores" | "quota";
  /** The processes that share what is allowed. */
  readonly processes: number;
}

/**
 * Chooses how many threads compute: one for each physical core that this process may use, but no more than its CPU quota
 * lets run at the same time, divided among the processes that compute beside each other.
 */
export function chooseThreads(demand: ThreadDemand, allowance: CpuAllowance = cpuAllowance()): ThreadChoice {
  const { asked, weightBytes, processes = 1 } = demand;
  const choice = { ...allowance, processes };
  if (asked !== undefined) return { ...choice, threads: asked, from: "asked" };
  if (weightBytes < singleThreadBytes) return { ...choice, threads: 1, from: "small" };
  const { quota = Number.POSITIVE_INFINITY } = allowance;
  const allowed = allowedThreads(allowance);
  const from = quota < allowance.cores ? "quota" : "cores";
  return { ...choice, threads: Math.max(1, Math.floor(allowed / processes)), from };
}

/** The best number of compute threads for each of `processes` on this machine. */
export function threadsAmong(processes: number): number {
  return chooseThreads({ weightBytes: Number.POSITIVE_INFINITY, processes }).threads;
}

/**
 * Rounds to the nearest number. Compute threads meet after every operation and spin until all are there, so with a quota
 * of 1 core two of them are half as fast as one; with 1.25 they are as fast, with 1.5 a quarter faster (docs/performance.md).
 */
function allowedThreads({ cores, quota = cores }: CpuAllowance): number {
  return Math.max(1, Math.min(cores, Math.round(quota)));
}

/** The number of threads with the reason, such as `1 (CPU quota 1.0 of 2 cores)`. */
export function threadsText(choice: ThreadChoice): string {
  return `${choice.threads} (${reasonText(choice)}${choice.processes > 1 ? `, ${choice.processes} processes` : ""})`;
}

/** The same as figures of a device; `cpuQuota` is 0 where there is none. */
export function threadFigures({ threads, cores, quota = 0 }: ThreadChoice) {
  return { threads, cores, cpuQuota: quota };
}

function reasonText({ from, cores, quota }: ThreadChoice): string {
  const physical = `${cores} ${cores === 1 ? "core" : "cores"}`;
  if (from === "small") return "a small model";
  if (from === "asked") return "--threads";
  return from === "quota" ? `CPU quota ${quotaText(quota!)} of ${physical}` : physical;
}

/** A quota in cores, with one digit after the point, or two if it is below that. */
export function quotaText(quota: number): string {
  return quota.toFixed(quota < 0.1 ? 2 : 1);
}

/** Says that more threads were asked for than the CPU quota lets run at the same time; undefined if that is not so. */
export function threadsWarning({ threads, from, quota, cores, processes }: ThreadChoice): string | undefined {
  const best = Math.max(1, Math.floor(allowedThreads({ cores, quota }) / processes));
  if (from !== "asked" || quota === undefined || quota >= cores || threads <= best) return undefined;
  const where = processes > 1 ? ` in each of ${processes} processes` : "";
  return `--threads ${threads}${where} is more than the CPU quota of ${quotaText(quota)} cores; --threads ${best} is faster`;
}
