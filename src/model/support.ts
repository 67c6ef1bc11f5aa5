import { StelliumError } from "../errors.ts";
import { requireString } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture } from "./architecture.ts";
import { architectures } from "./architectures.ts";
import { describeModel, type ModelDescription } from "./describeModel.ts";
import { reasonOfOtherFile } from "./otherFiles.ts";

/** Names of the architectures that run, as in GGUF's `general.architecture`. */
export function architectureNames(): string[] {
  return architectures.map(({ name }) => name);
}

/** Everything the engine needs to know to run a model. Throws `MODEL_UNSUPPORTED` with the reason it cannot. */
export function describe(model: GgufModel): ModelDescription {
  return describeModel(model, architectureOf(model));
}

/** The architecture a model names. Throws `MODEL_UNSUPPORTED` if it is no model of text, or there is none of that name. */
function architectureOf(model: GgufModel): Architecture {
  const name = requireString(model, "general.architecture");
  const other = reasonOfOtherFile(model);
  if (other !== undefined)
    throw new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? name, reason: other });
  const found = architectures.find((architecture) => architecture.name === name);
  if (found !== undefined) return found;
  const reason = `its architecture ${name} is not one of those that run (${architectureNames().join(", ")})`;
  throw new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? name, reason });
}

/** Support of a model: the number of tensors that are left out since they do not touch text, or the reason against it. */
export type Support =
  | { readonly supported: true; readonly leftOut?: number }
  | { readonly supported: false; readonly reason: string };

/** Checks if Stellium can run a model. */
export function supportOf(model: GgufModel): Support {
  try {
    const { leftOut } = describe(model);
    return { supported: true, ...(leftOut > 0 && { leftOut }) };
  } catch (error) {
    if (error instanceof StelliumError) return { supported: false, reason: error.message };
    throw error;
  }
}
