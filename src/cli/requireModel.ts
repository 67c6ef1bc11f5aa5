import { StelliumError } from "../errors.ts";
import { resolveModel } from "../models/resolveModel.ts";
import { pullReport } from "./pullReport.ts";

/** The model that was named. Throws `BAD_USAGE` where none was. */
export function requireModel(model: string | undefined): string {
  if (model !== undefined && model !== "") return model;
  throw new StelliumError("BAD_USAGE", { detail: "no model was named; name one, or set STELLIUM_MODEL" });
}

/** Values of `modelOptions`. */
export interface ModelValues {
  readonly model: string | undefined;
  readonly offline: boolean;
}

/**
 * The path or URL of the model that was named, which is fetched where it has to be. Throws `BAD_USAGE` and what
 * `resolveModel` throws.
 */
export async function locateModel({ model, offline }: ModelValues, signal: AbortSignal): Promise<string> {
  const name = requireModel(model);
  using report = pullReport();
  return await resolveModel(name, { offline, signal, ...report });
}
