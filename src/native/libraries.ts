import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { reasonOf, StelliumError } from "../errors.ts";
import { giveLargeBlocksBack } from "./allocator.ts";
import { bestVariant, loadVariant, requestedVariant } from "./cpuVariant.ts";
import koffi, { type LibraryHandle } from "./koffi.ts";
import { logNative } from "./nativeLog.ts";
import { packageFor } from "./platform.ts";
import { checkCpuBuilds, checkLibc, checkLibrary, noCpuBuild } from "./systemCheck.ts";

/** The native libraries of this process. */
export interface NativeLibraries {
  /** Folder that they were found in. */
  readonly directory: string;
  /** libggml-base: tensors, graphs, backends. */
  readonly base: LibraryHandle;
  /** libggml: the registry of backends. */
  readonly ggml: LibraryHandle;
  /** libllama, loaded at the first call: only the coordinator has a vocabulary. */
  llama(): LibraryHandle;
}

let loaded: NativeLibraries | undefined;

/**
 * Loads ggml and, once per process, its backends; of the CPU builds the one that `STELLIUM_CPU` names, or the one that
 * ggml scores best. Throws `PLATFORM_UNSUPPORTED`, `SYSTEM_TOO_OLD`, `LIBRARY_MISSING`, `CPU_UNSUPPORTED`,
 * `CPU_VARIANT_INVALID`, `NATIVE_MISSING` or `NATIVE_INCOMPATIBLE`.
 */
export function nativeLibraries(): NativeLibraries {
  loaded ??= loadLibraries(nativeDirectory());
  return loaded;
}

/** Name of the CPU variant that computes, such as `zen4`; undefined if the platform's package has a single build. */
export function cpuVariantName(): string | undefined {
  const { directory } = nativeLibraries();
  const folder = { directory, files: filesIn(directory) };
  return (requestedVariant(folder) ?? bestVariant(folder))?.name;
}

/** The folder of the native libraries: `STELLIUM_NATIVE_DIR`, or this platform's package. */
export function nativeDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  return environment["STELLIUM_NATIVE_DIR"] || packageDirectory(`${process.platform}-${process.arch}`);
}

/** Folder of the platform package for `platform`, such as `linux-x64`. */
export function packageDirectory(platform: string): string {
  const name = packageFor(platform);
  try {
    const entry = createRequire(import.meta.url).resolve(`@node-llama-cpp/${name}`);
    return join(dirname(entry), "..", "bins", name);
  } catch (error) {
    checkLibc();
    throw new StelliumError("NATIVE_MISSING", { package: `@node-llama-cpp/${name}` }, { cause: error });
  }
}

/** Runs what binds functions of the libraries. Throws `NATIVE_INCOMPATIBLE` where one is missing. */
export function orIncompatible<T>(directory: string, bind: () => T): T {
  try {
    return bind();
  } catch (error) {
    if (error instanceof StelliumError) throw error;
    throw new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason: reasonOf(error) }, { cause: error });
  }
}

function loadLibraries(directory: string): NativeLibraries {
  giveLargeBlocksBack();
  const base = load(directory, "ggml-base");
  const ggml = load(directory, "ggml");
  orIncompatible(directory, () => {
    logNative(base, "ggml_log_set");
    loadBackends(ggml, directory);
  });
  let llama: LibraryHandle | undefined;
  return {
    directory,
    base,
    ggml,
    llama() {
      llama ??= load(directory, "llama");
      return llama;
    },
  };
}

/** Another thread of this process may have loaded them, and in some packages libggml brings them. */
function loadBackends(ggml: LibraryHandle, directory: string): void {
  const areLoaded = ggml.func("size_t ggml_backend_dev_count()")() !== 0;
  if (!areLoaded) checkCpuBuilds(directory);
  const variant = requestedVariant({ directory, files: filesIn(directory) });
  if (areLoaded) return;
  if (variant !== undefined) loadVariant(ggml, variant);
  else loadBest(ggml, directory);
}

function loadBest(ggml: LibraryHandle, directory: string): void {
  ggml.func("void ggml_backend_load_all_from_path(str)")(directory);
  if (ggml.func("size_t ggml_backend_dev_count()")() === 0) throw noCpuBuild(directory);
}

function load(directory: string, library: string): LibraryHandle {
  const file = findLibrary(directory, library);
  checkLibrary(directory, file);
  // Global, so that the backends and libllama find the symbols of the libraries below them.
  return orIncompatible(directory, () => koffi.load(join(directory, file), { global: true }));
}

function findLibrary(directory: string, library: string): string {
  const pattern = new RegExp(`^(lib)?${library}(\\.v[\\d.]+)?\\.(so|dylib|dll)$`);
  const file = filesIn(directory).find((name) => pattern.test(name));
  if (file === undefined) {
    throw new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason: `there is no ${library} library in it` });
  }
  return file;
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    throw new StelliumError("FILE_UNREADABLE", { path: directory, reason: reasonOf(error) }, { cause: error });
  }
}
