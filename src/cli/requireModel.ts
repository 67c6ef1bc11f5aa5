import { StelliumError } from "../errors.ts";

/** The model that was named. Throws `BAD_USAGE` where none was. */
export function requireModel(model: string | undefined): string {
  if (model !== undefined && model !== "") return model;
  throw new StelliumError("BAD_USAGE", { detail: "no model was named; name a GGUF file, or set STELLIUM_MODEL" });
}
