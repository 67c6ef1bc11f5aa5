import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi from "koffi";
import { tensorTypes } from "../../dist/native/tensorTypes.js";

/** @typedef {import("../../dist/native/tensorTypes.js").TensorTypeName} TensorTypeName */

/** @type {Record<string, string>} */
const libraries = { linux: "libggml-base.so", darwin: "libggml-base.dylib", win32: "ggml-base.dll" };
/** @type {Record<string, string>} */
const packages = {
  ...{ "linux-x64": "linux-x64", "linux-arm64": "linux-arm64", "linux-arm": "linux-armv7l" },
  ...{ "darwin-arm64": "mac-arm64-metal", "darwin-x64": "mac-x64", "win32-x64": "win-x64", "win32-arm64": "win-arm64" },
};

/** @type {ReturnType<typeof load> | undefined} */
let loaded;

/**
 * Quantizes rows with ggml. Types that need an importance matrix get one of ones.
 * @param {TensorTypeName} type
 * @param {Float32Array} values Whole rows.
 * @param {number} rowLength
 * @returns {Uint8Array}
 */
export function quantize(type, values, rowLength) {
  loaded ??= load();
  const { id, blockElements, blockBytes } = tensorTypes[type];
  const target = new Uint8Array((values.length / blockElements) * blockBytes);
  const importance = loaded.needsImportance(id) ? new Float32Array(rowLength).fill(1) : null;
  const bytes = loaded.quantizeChunk(id, values, target, 0, values.length / rowLength, rowLength, importance);
  if (Number(bytes) !== target.length) throw new Error(`ggml made ${bytes} bytes of ${type}, not ${target.length}`);
  return target;
}

function load() {
  const library = koffi.load(libraryPath());
  return {
    needsImportance: library.func("bool ggml_quantize_requires_imatrix(int type)"),
    quantizeChunk: library.func(
      "size_t ggml_quantize_chunk(int type, const float *src, void *dst, int64_t start, int64_t rows, int64_t row_length, const float *imatrix)",
    ),
  };
}

function libraryPath() {
  const name = libraries[process.platform] ?? "libggml-base.so";
  const directory = process.env["STELLIUM_NATIVE_DIR"] ?? packageDirectory();
  const path = join(directory, name);
  if (!existsSync(path))
    throw new Error(`${path} is missing; set STELLIUM_NATIVE_DIR to the folder that holds ${name}`);
  return path;
}

function packageDirectory() {
  const name = packages[`${process.platform}-${process.arch}`] ?? `${process.platform}-${process.arch}`;
  const roots = createRequire(import.meta.url).resolve.paths("koffi") ?? [];
  const candidates = roots.map((root) => join(root, "@node-llama-cpp", name, "bins", name));
  return candidates.find(existsSync) ?? candidates[0] ?? dirname(import.meta.filename);
}
