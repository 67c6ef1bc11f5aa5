import { readdirSync } from "node:fs";
import { StelliumError } from "../../errors.ts";
import { requireString } from "../../weights/gguf/metadata.ts";
import type { GgufModel } from "../../weights/gguf/model.ts";
import { describeModel, type ModelDescription } from "../modelDescription.ts";
import type { Architecture } from "./architecture.ts";

const folder = new URL(".", import.meta.url);
const infrastructure = new Set(["architecture", "support"]);

/** Names of the architectures there are: a file of this folder each, named as in GGUF's `general.architecture`. */
export function architectureNames(): string[] {
  const files = readdirSync(folder).filter((file) => /^[\w-]+\.js$/.test(file));
  return files.map((file) => file.slice(0, -".js".length)).filter((name) => !infrastructure.has(name));
}

/** The architecture a model names. Throws `MODEL_UNSUPPORTED` where there is no such. */
export async function loadArchitecture(model: GgufModel): Promise<Architecture> {
  const name = requireString(model, "general.architecture");
  const names = architectureNames();
  if (names.includes(name)) return (await import(new URL(`${name}.js`, folder).href)).default;
  const reason = `its architecture ${name} is not among those there are (${names.join(", ")})`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? name, reason });
}

/** Everything the engine needs to know to run a model. Throws `MODEL_UNSUPPORTED` with the reason it cannot. */
export async function describe(model: GgufModel): Promise<ModelDescription> {
  return describeModel(model, await loadArchitecture(model));
}

/** Whether Stellium can run a model and, if not, why. */
export async function supportOf(model: GgufModel): Promise<{ supported: true } | { supported: false; reason: string }> {
  try {
    await describe(model);
    return { supported: true };
  } catch (error) {
    if (error instanceof StelliumError) return { supported: false, reason: error.message };
    throw error;
  }
}
