import { StelliumError } from "../errors.ts";
import { authorization, hubFromEnvironment } from "../models/hub.ts";
import { resolveModel } from "../models/resolveModel.ts";
import { openFile } from "../weights/byteSource.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import { readGguf } from "../weights/gguf/reader.ts";
import { openUrl } from "../weights/httpSource.ts";
import { checkUrl, isUrl } from "../weights/modelUrl.ts";
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
 * The path or URL of the model that was named, which is fetched where it has to be; with `headerOnly`, it does not have
 * to be. Throws `BAD_USAGE` and what `resolveModel` throws.
 */
export async function locateModel(
  { model, offline }: ModelValues,
  signal: AbortSignal,
  { headerOnly = false } = {},
): Promise<string> {
  const name = requireModel(model);
  using report = pullReport();
  return await resolveModel(name, { offline, signal, headerOnly, ...report });
}

/** What the model that was named says about itself. Of one that is not on this device, only that is read. */
export async function readHeader(
  values: ModelValues,
  signal: AbortSignal,
  options: { headerOnly?: boolean } = {},
): Promise<GgufModel> {
  const path = await locateModel(values, signal, { headerOnly: true });
  if (!isUrl(path)) return await readGguf(path, openFile, options);
  checkUrl(path);
  const { endpoint, token } = await hubFromEnvironment();
  const headers = (address: string) => authorization({ endpoint, token }, address);
  return await readGguf(path, (url) => openUrl(url, { signal, headers }), options);
}
