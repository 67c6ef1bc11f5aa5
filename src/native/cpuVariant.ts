import { join } from "node:path";
import { reasonOf, StelliumError } from "../errors.ts";
import koffi, { type LibraryHandle } from "./koffi.ts";

/** One of ggml's builds of its CPU kernels, each for the instruction sets of a family of processors. */
export interface CpuVariant {
  /** As in its file's name: `haswell`, `zen4`, `armv8.2_3`. */
  readonly name: string;
  readonly path: string;
}

/** A folder of native libraries, and the names of the files in it. */
export interface LibraryFolder {
  readonly directory: string;
  readonly files: readonly string[];
}

/** The variants among the files of a folder, by name. Packages for some platforms have a single build, and so none. */
export function cpuVariants({ directory, files }: LibraryFolder): CpuVariant[] {
  return files
    .flatMap((file) => {
      const name = /^(?:lib)?ggml-cpu-([\w.]+)\.(?:so|dylib|dll)$/.exec(file)?.[1];
      return name === undefined ? [] : [{ name, path: join(directory, file) }];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The variant that `STELLIUM_CPU` names, or undefined if it is unset or empty: then ggml takes the one it scores best.
 * Throws `CPU_VARIANT_INVALID` if there is no such variant or this CPU cannot run it. libggml-base must be loaded.
 */
export function requestedVariant(
  folder: LibraryFolder,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): CpuVariant | undefined {
  const wanted = environment["STELLIUM_CPU"];
  if (!wanted) return undefined;
  const variants = cpuVariants(folder);
  const variant = variants.find(({ name }) => name === wanted);
  if (variant !== undefined && variantScore(variant) > 0) return variant;
  throw refusal(wanted, folder, variants);
}

/** The variant that ggml chooses by itself: the one with the highest score. Undefined if there is none to choose. */
export function bestVariant(folder: LibraryFolder): CpuVariant | undefined {
  const scored = cpuVariants(folder).map((variant) => ({ variant, score: scoreOrZero(variant) }));
  return scored.filter(({ score }) => score > 0).sort((a, b) => b.score - a.score)[0]?.variant;
}

/** Loads one variant and no other backend. Throws `CPU_VARIANT_INVALID` if ggml does not take it. */
export function loadVariant(ggml: LibraryHandle, { name, path }: CpuVariant): void {
  if (ggml.func("void *ggml_backend_load(str)")(path) !== null) return;
  throw new StelliumError("CPU_VARIANT_INVALID", { variant: name, reason: `ggml cannot load ${path}` });
}

/** ggml's score of a variant on this CPU: 0 if it lacks an instruction set that the variant was compiled for. */
function variantScore({ name, path }: CpuVariant): number {
  try {
    const library = koffi.load(path, { lazy: true });
    const score = library.func("int ggml_backend_score()")() as number;
    library.unload();
    return score;
  } catch (error) {
    const reason = `${path}: ${reasonOf(error)}`;
    throw new StelliumError("CPU_VARIANT_INVALID", { variant: name, reason }, { cause: error });
  }
}

/** As ggml does, counts a library that cannot be loaded among those that cannot run. */
function scoreOrZero(variant: CpuVariant): number {
  try {
    return variantScore(variant);
  } catch {
    return 0;
  }
}

function refusal(wanted: string, { directory }: LibraryFolder, variants: readonly CpuVariant[]): StelliumError {
  const known = variants.some(({ name }) => name === wanted);
  const single = `${directory} has a single build of ggml's CPU kernels, without variants`;
  const reason = `${known ? "this CPU lacks instructions that it needs" : "there is no such variant"}; ${choiceOf(variants)}`;
  const values = { variant: wanted.slice(0, 64), reason: variants.length === 0 ? single : reason };
  return new StelliumError("CPU_VARIANT_INVALID", values);
}

function choiceOf(variants: readonly CpuVariant[]): string {
  const runs = variants.filter((variant) => scoreOrZero(variant) > 0);
  const others = variants.filter((variant) => !runs.includes(variant));
  const names = (list: readonly CpuVariant[]) => list.map(({ name }) => name).join(", ") || "none";
  return `this CPU runs ${names(runs)}${others.length === 0 ? "" : `, and not ${names(others)}`}`;
}
