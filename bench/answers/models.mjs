import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generateModel } from "../generateModel.mjs";

/**
 * @typedef {object} ComparedModel
 * @property {string} name
 * @property {string} type Of its weights, in capitals.
 * @property {() => Promise<string | undefined>} file Its path; undefined where it is not there.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const data = join(root, "../shared/data");

/**
 * A model of random weights, written to a folder when it is asked for.
 * @param {string} folder @param {string} shape @param {string} type
 * @returns {ComparedModel}
 */
export function random(folder, shape, type) {
  const path = join(folder, `${shape}-${type}.gguf`);
  const file = async () => {
    if (!existsSync(path)) await generateModel({ path, shape, type });
    return path;
  };
  return { name: `${shape} ${type}`, type, file };
}

/**
 * The bundled model. `type` other than `q8_0`: as it lies in ../shared/data.
 * @param {string} type
 * @returns {ComparedModel}
 */
export function demo(type = "q8_0") {
  const name = `stellium-shakespeare-5m-${type}.gguf`;
  const path = type === "q8_0" ? join(root, "models", name) : join(data, "own-model", name);
  return { name: `demo ${type.toUpperCase()}`, type: type.toUpperCase(), file: async () => present(path) };
}

/**
 * stories260K, where ../shared/data is.
 * @param {string} type
 * @returns {ComparedModel}
 */
export function stories(type) {
  const path = join(data, `stories260K/stories260K-${type}.gguf`);
  return { name: `stories260K ${type.toUpperCase()}`, type: type.toUpperCase(), file: async () => present(path) };
}

/** @param {string} path */
function present(path) {
  return existsSync(path) ? path : undefined;
}

const shapes = ["tiny-llama", "tiny-qwen2", "tiny-qwen3"];
const types = ["F32", "F16", "Q8_0", "Q4_0", "Q4_K_M"];

/**
 * All that answers are compared for.
 * @param {string} folder for those of random weights
 */
export function allModels(folder) {
  return [
    ...["f32", "f16", "q8_0", "q4_0"].map(stories),
    ...["f16", "q8_0", "q4_0"].map(demo),
    ...shapes.flatMap((shape) => types.map((type) => random(folder, shape, type))),
  ];
}
