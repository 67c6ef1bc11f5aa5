import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { generateModel } from "../generateModel.mjs";

/**
 * Makes a model in a folder of its own below `dir`, and removes both when `use` is done, however it or the process ends.
 * @template T
 * @param {{ shape: string, type: string, layers?: number | undefined, dir: string, signal: AbortSignal }} options
 * @param {(path: string, plan: import("../generateModel.mjs").ModelPlan) => Promise<T>} use
 * @returns {Promise<T>}
 */
export async function withModel({ shape, type, layers, dir, signal }, use) {
  const folder = await mkdtemp(join(dir, "stellium-single-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.on("exit", remove);
  try {
    const path = join(folder, `${shape}-${type}.gguf`);
    const plan = await generateModel({ shape, type, layers, path, onProgress: () => signal.throwIfAborted() });
    return await use(path, plan);
  } finally {
    remove();
    process.off("exit", remove);
  }
}
