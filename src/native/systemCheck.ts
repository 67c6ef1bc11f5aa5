import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { StelliumError } from "../errors.ts";
import { type ElfLibrary, readElf } from "../system/elf.ts";
import koffi from "./koffi.ts";

// The dynamic linker would refuse libraries that this system is too old for, too, but in its own words, and ggml keeps
// to itself why it leaves a build for some CPU out. So what libraries need is compared with what there is beforehand.

/** Facts of a system that decide if libraries can be loaded. */
export interface SystemFacts {
  /** `process.arch` */
  readonly arch: string;
  /** Version of glibc, such as `2.36`; undefined for another C library. */
  readonly glibc: string | undefined;
  /** Name of the C library if it is not glibc. */
  readonly otherLibc: string;
  /** Versions that the library of this name provides, none where that is unknown; undefined if there is no such library. */
  versions(library: string): readonly string[] | undefined;
}

/** The least glibc that the pinned native packages run with: read from them in `test/native/systemCheck.test.ts`. */
export const leastGlibc = "2.34";

/** `e_machine` of ELF files by `process.arch`, and what machines are called. */
const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183, arm: 40, ia32: 3, riscv64: 243 };

/**
 * Throws what keeps the pinned packages from running on this system, whichever are installed: npm leaves out those that
 * are for another C library. Throws `SYSTEM_TOO_OLD`.
 */
export function checkLibc(facts: SystemFacts | undefined = thisSystem()): void {
  if (facts === undefined || facts.glibc !== undefined) return;
  throw tooOld("C library", facts.otherLibc, `glibc ${leastGlibc}`);
}

/** Throws `SYSTEM_TOO_OLD`, `LIBRARY_MISSING` or `NATIVE_INCOMPATIBLE` if a library cannot be loaded on this system. */
export function checkLibrary(directory: string, file: string, facts: SystemFacts | undefined = thisSystem()): void {
  const problem = facts && problemOf(directory, file, facts);
  if (problem !== undefined) throw problem;
}

/** The same for ggml's builds for CPUs, of which one has to do: throws what keeps the last of them from it. */
export function checkCpuBuilds(directory: string, facts: SystemFacts | undefined = thisSystem()): void {
  if (facts === undefined) return;
  let problem: StelliumError | undefined;
  for (const file of cpuBuilds(directory)) {
    problem = problemOf(directory, file, facts);
    if (problem === undefined) return;
  }
  if (problem !== undefined) throw problem;
}

/** Files of ggml's builds for CPUs. */
function cpuBuilds(directory: string): string[] {
  return readdirSync(directory).filter((name) => /^libggml-cpu.*\.so$/.test(name));
}

function problemOf(directory: string, file: string, facts: SystemFacts): StelliumError | undefined {
  const library = readElf(join(directory, file));
  if (library === undefined) return undefined;
  return machineProblem(directory, library, facts) ?? unmetNeed(library, file, facts, readdirSync(directory));
}

function machineProblem(directory: string, { machine }: ElfLibrary, { arch }: SystemFacts): StelliumError | undefined {
  const expected = machines[arch];
  if (expected === undefined || machine === expected) return undefined;
  const found = Object.entries(machines).find(([, number]) => number === machine)?.[0] ?? `machine ${machine}`;
  const reason = `they are built for ${found}, and this Node.js for ${arch}`;
  return new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason });
}

/**
 * What a library needs and this system does not have; undefined if it has all.
 *
 * @param beside - files that lie beside the library, where the linker looks first
 */
export function unmetNeed(
  { libraries, needs }: Pick<ElfLibrary, "libraries" | "needs">,
  file: string,
  facts: SystemFacts,
  beside: readonly string[] = [],
): StelliumError | undefined {
  const glibc = newest([...needs.values()].flat(), "GLIBC");
  if (glibc !== undefined && facts.glibc === undefined) return tooOld("C library", facts.otherLibc, `glibc ${glibc}`);
  if (glibc !== undefined && compareVersions(glibc, facts.glibc!) > 0) return tooOld("glibc", facts.glibc!, glibc);
  for (const library of libraries.filter((name) => !beside.includes(name))) {
    const provided = facts.versions(library);
    if (provided === undefined) return new StelliumError("LIBRARY_MISSING", { library, file });
    const missing = (needs.get(library) ?? []).filter((name) => !name.startsWith("GLIBC_") && !provided.includes(name));
    const [name] = missing.sort(compareVersions).slice(-1);
    if (provided.length > 0 && name !== undefined) return tooOld(library, newestLike(name, provided), name);
  }
  return undefined;
}

function tooOld(library: string, found: string, needed: string): StelliumError {
  return new StelliumError("SYSTEM_TOO_OLD", { library, found, needed });
}

/** The newest version of a family such as `GLIBC`, without its name. */
function newest(names: readonly string[], family: string): string | undefined {
  const versions = names.flatMap((name) => new RegExp(`^${family}_(\\d+(?:\\.\\d+)*)$`).exec(name)?.[1] ?? []);
  return versions.sort(compareVersions).at(-1);
}

/** The newest version of the same family, such as `GLIBCXX_3.4.28` for `GLIBCXX_3.4.30`. */
function newestLike(name: string, provided: readonly string[]): string {
  const family = name.slice(0, name.lastIndexOf("_"));
  const version = newest(provided, family);
  return version === undefined ? `without ${family}` : `${family}_${version}`;
}

/** By their numbers, from left to right: 2.9 comes before 2.34. */
function compareVersions(a: string, b: string): number {
  const [first, second] = [a, b].map((version) => version.replace(/\d+/g, (number) => number.padStart(9, "0")));
  return first! < second! ? -1 : Number(first! > second!);
}

/** Instructions that ggml's builds for x86-64 need, as Linux calls them; those of a build include the ones before it. */
const instructions: readonly (readonly [build: string, flags: readonly string[]])[] = [
  ["sse42", ["sse4_2"]],
  ["sandybridge", ["sse4_2", "avx"]],
  ["ivybridge", ["sse4_2", "avx", "f16c"]],
  ["piledriver", ["sse4_2", "avx", "f16c", "fma"]],
  ["haswell", ["sse4_2", "avx", "f16c", "fma", "avx2", "bmi2"]],
  ["skylakex", ["avx2", "fma", "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"]],
];

/** The error of a system on which ggml takes none of its builds for CPUs, although all could be loaded. */
export function noCpuBuild(directory: string, cpuinfo: string = textOf("/proc/cpuinfo")): StelliumError {
  const builds = cpuBuilds(directory).map((name) => name.replace(/^libggml-cpu-?|\.so$/g, "") || "all CPUs");
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/);
  const least = instructions.find(([build]) => builds.includes(build));
  const lacking = flags && least ? least[1].filter((flag) => !flags.includes(flag)) : [];
  const why = lacking.length > 0 ? `; this CPU has no ${lacking.join(", ")}` : "";
  const reason =
    builds.length === 0 ? "there is no libggml-cpu in it" : `its builds are for ${builds.join(", ")}${why}`;
  return new StelliumError("CPU_UNSUPPORTED", { directory, reason });
}

let known: SystemFacts | undefined;

/** Facts of this system; undefined if there is nothing to check: on systems without ELF, and in later threads. */
function thisSystem(): SystemFacts | undefined {
  if (process.platform !== "linux" || !isMainThread) return undefined;
  known ??= { arch: process.arch, glibc: glibcVersion(), otherLibc: otherLibc(), versions: remembered(versionsOf) };
  return known;
}

function remembered<T>(find: (name: string) => T): (name: string) => T {
  const found = new Map<string, T>();
  return (name) => {
    if (!found.has(name)) found.set(name, find(name));
    return found.get(name) as T;
  };
}

function glibcVersion(): string | undefined {
  try {
    return (koffi.load(null).func("str gnu_get_libc_version()") as () => string)();
  } catch (error) {
    if (error instanceof StelliumError) throw error;
    return undefined;
  }
}

function otherLibc(): string {
  return /\/ld-musl-/.test(textOf("/proc/self/maps")) ? "musl" : "not glibc";
}

/** Loads a system library, as the linker would for ggml, and reads what it provides. */
function versionsOf(library: string): readonly string[] | undefined {
  try {
    koffi.load(library);
  } catch {
    return undefined;
  }
  const paths = textOf("/proc/self/maps").matchAll(/ (\/\S+)$/gm);
  const path = [...paths].map(([, each]) => each!).find((each) => each.includes(`/${library}`));
  return path === undefined ? [] : (readElf(path)?.provides ?? []);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
