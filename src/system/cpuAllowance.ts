import { availableParallelism } from "node:os";
import { controlGroups } from "./controlGroups.ts";
import { amountIn, figureIn, least, type ReadText, readSystem } from "./readText.ts";

/** Processors that this process may use. */
export interface CpuAllowance {
  /** Physical cores that its affinity mask allows. */
  readonly cores: number;
  /** Seconds of processor time per second that its control groups allow, all together; undefined for no limit. */
  readonly quota: number | undefined;
}

/** Periods in which a control group used up its quota, since it was made. */
export interface Throttling {
  /** Periods in which one of its processes ran. */
  readonly periods: number;
  readonly throttled: number;
}

/** Reads what the affinity mask and the CPU quotas of all groups that this process is in allow. */
export function cpuAllowance(read: ReadText = readSystem): CpuAllowance {
  return { cores: physicalCores(read), quota: least(...quotas(read).map(({ quota }) => quota)) };
}

/** Counts of the groups that have a quota, its own first; none where there is no quota. */
export function throttling(read: ReadText = readSystem): Throttling[] {
  return quotas(read).map(({ directory }) => {
    const text = read(`${directory}/cpu.stat`);
    return { periods: figureIn(text, "nr_periods") ?? 0, throttled: figureIn(text, "nr_throttled") ?? 0 };
  });
}

function quotas(read: ReadText): { directory: string; quota: number }[] {
  const groups = controlGroups("cpu", read);
  const quotaOf = groups?.version === 2 ? secondQuota : firstQuota;
  return (groups?.directories ?? []).flatMap((directory) => {
    const quota = quotaOf(directory, read);
    return quota === undefined ? [] : [{ directory, quota }];
  });
}

function firstQuota(directory: string, read: ReadText): number | undefined {
  return ratio(read(`${directory}/cpu.cfs_quota_us`), read(`${directory}/cpu.cfs_period_us`));
}

/** `cpu.max` is quota and period, or `max` and the period. */
function secondQuota(directory: string, read: ReadText): number | undefined {
  const [quota, period = defaultPeriod] = read(`${directory}/cpu.max`)?.trim().split(/\s+/) ?? [];
  return ratio(quota, period);
}

const defaultPeriod = "100000";

function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const [used, length] = [amountIn(quota), amountIn(period)];
  return used === undefined || !used || !length ? undefined : used / length;
}

/** Processors that share a core count once. A system that does not say counts as one core each. */
function physicalCores(read: ReadText): number {
  const processors = allowedProcessors(read);
  if (processors.length === 0) return availableParallelism();
  const cores = processors.map(
    (cpu) => read(`/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`)?.trim() || `${cpu}`,
  );
  return new Set(cores).size;
}

/**
 * Reads the numbers of the processors that the affinity mask allows and that are on: the mask may name others. None where
 * the system does not say.
 */
export function allowedProcessors(read: ReadText = readSystem): number[] {
  const mask = /^Cpus_allowed_list:\s*(\S+)/m.exec(read("/proc/self/status") ?? "")?.[1];
  const allowed = processorsIn(mask ?? "");
  const online = new Set(processorsIn(read("/sys/devices/system/cpu/online") ?? ""));
  return online.size === 0 ? allowed : allowed.filter((cpu) => online.has(cpu));
}

/** Linux has at most 8192. */
const mostProcessors = 8192;

/** Reads a list such as `0-3,8,10-11`. */
export function processorsIn(list: string): number[] {
  return list.split(",").flatMap((part) => {
    const [, from, to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? [];
    if (from === undefined) return [];
    const count = Math.min(Number(to), mostProcessors - 1) - Number(from) + 1;
    return Array.from({ length: Math.max(0, count) }, (_, i) => Number(from) + i);
  });
}
