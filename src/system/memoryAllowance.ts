import { type ControlGroups, controlGroups } from "./controlGroups.ts";
import { amountIn, figureIn, least, type ReadText, readSystem } from "./readText.ts";

/** Memory that the control groups of this process allow, in bytes; undefined if none has a limit. */
export interface GroupMemory {
  /** The smallest limit. */
  readonly limit: number | undefined;
  /** Bytes that all processes of the groups may still take. Page cache that the system can drop is not in use. */
  readonly available: number | undefined;
}

/** Memory that this process may use, in bytes. */
export interface MemoryAllowance {
  /** The smallest limit of its control groups; undefined if none has one. */
  readonly limit: number | undefined;
  /** Bytes that it may still take. */
  readonly available: number;
  /** True if the limit is a control group's, not the machine's. */
  readonly grouped: boolean;
  /** Bytes that it has taken already: anonymous and shared memory, but no pages of files. */
  readonly own: number;
}

/** Reads what this process may take in all: `available + own`. */
export function memoryAllowance(read: ReadText = readSystem): MemoryAllowance {
  const groups = groupMemory(read);
  const machine = kilobytesIn(read("/proc/meminfo"), "MemAvailable") ?? process.availableMemory();
  const available = Math.min(machine, groups.available ?? Number.POSITIVE_INFINITY);
  return { limit: groups.limit, available, grouped: available < machine, own: ownBytes(read) };
}

/** Reads the limits of all groups that this process is in, and what is in use of each. */
export function groupMemory(read: ReadText = readSystem): GroupMemory {
  const groups = controlGroups("memory", read);
  const levels = groups === undefined ? [] : levelsOf(groups, read);
  return {
    limit: least(...levels.map(({ limit }) => limit)),
    available: least(...levels.map(({ limit, used }) => Math.max(0, limit - used))),
  };
}

/** A group that has a limit. */
interface Level {
  readonly limit: number;
  /** Pages that cannot be taken back at once. */
  readonly used: number;
}

function levelsOf({ version, directories }: ControlGroups, read: ReadText): Level[] {
  const levels = version === 2 ? directories : effective(directories, read);
  const levelOf = version === 2 ? secondLevel : firstLevel;
  return levels.flatMap((directory) => levelOf(directory, read) ?? []);
}

/** In version 1 a parent counts its children only if `memory.use_hierarchy` says so. */
function effective(directories: readonly string[], read: ReadText): readonly string[] {
  const apart = directories.findIndex(
    (directory, i) => i > 0 && read(`${directory}/memory.use_hierarchy`)?.trim() === "0",
  );
  return apart === -1 ? directories : directories.slice(0, apart);
}

/** `hierarchical_memory_limit` knows of parents that cannot be seen from a container. */
function firstLevel(directory: string, read: ReadText): Level | undefined {
  const stat = read(`${directory}/memory.stat`);
  const own = amountIn(read(`${directory}/memory.limit_in_bytes`));
  const limit = least(own, figureIn(stat, "hierarchical_memory_limit"));
  if (limit === undefined) return undefined;
  const figure = (name: string) => figureIn(stat, `total_${name}`) ?? figureIn(stat, name) ?? 0;
  const cache = figure("inactive_file") + figure("active_file") - figure("dirty") - figure("writeback");
  return { limit, used: usedOf(read(`${directory}/memory.usage_in_bytes`), cache) };
}

/** Beyond `memory.high` the system slows processes down to take memory back from them. */
function secondLevel(directory: string, read: ReadText): Level | undefined {
  const limit = least(...["max", "high"].map((name) => amountIn(read(`${directory}/memory.${name}`))));
  if (limit === undefined) return undefined;
  const stat = read(`${directory}/memory.stat`);
  const figure = (name: string) => figureIn(stat, name) ?? 0;
  const files = figure("inactive_file") + figure("active_file") - figure("file_dirty") - figure("file_writeback");
  return { limit, used: usedOf(read(`${directory}/memory.current`), files + figure("slab_reclaimable")) };
}

/** Pages that are being written to a disk cannot be dropped at once; there may be more of them than of others. */
function usedOf(usage: string | undefined, reclaimable: number): number {
  return Math.max(0, (amountIn(usage) ?? 0) - Math.max(0, reclaimable));
}

/** Pages of files, such as the program's own, are page cache: they count as available already. */
function ownBytes(read: ReadText): number {
  const status = read("/proc/self/status");
  const anonymous = kilobytesIn(status, "RssAnon");
  if (anonymous === undefined) return process.memoryUsage.rss();
  return anonymous + (kilobytesIn(status, "RssShmem") ?? 0);
}

/** The figure of a line such as `RssAnon:   1024 kB`, in bytes. */
function kilobytesIn(text: string | undefined, name: string): number | undefined {
  const kilobytes = amountIn(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(text ?? "")?.[1]);
  return kilobytes === undefined ? undefined : kilobytes * 1024;
}
