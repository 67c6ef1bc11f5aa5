import { openFile } from "../weights/byteSource.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import { readGguf } from "../weights/gguf/reader.ts";
import { openUrl } from "../weights/httpSource.ts";
import { checkUrl, isUrl } from "../weights/modelUrl.ts";
import { authorization, hubFromEnvironment } from "./hub.ts";
import { refusedByHub } from "./hubListing.ts";
import { parseModelName } from "./modelName.ts";
import { type ResolveOptions, resolveModel } from "./resolveModel.ts";

/**
 * What a model says about itself, by its name. Of one that is not on this device, no more than that is read. With
 * `dataMayBeMissing`, its file may end behind that. Throws what `resolveModel`, `readGguf` and `openUrl` throw.
 */
export async function readModelHeader(
  name: string,
  { dataMayBeMissing = false, ...options }: Omit<ResolveOptions, "headerOnly"> & { dataMayBeMissing?: boolean } = {},
): Promise<GgufModel> {
  const { environment, signal } = options;
  const path = await resolveModel(name, { ...options, headerOnly: true });
  if (!isUrl(path)) return await readGguf(path, openFile, { headerOnly: dataMayBeMissing });
  checkUrl(path);
  const hub = await hubFromEnvironment(environment);
  const model = parseModelName(name, hub.endpoint);
  const named = model.kind === "file" ? undefined : model.hub;
  const headers = (address: string) => authorization(hub, address);
  const refuse = (response: Response) => named && refusedByHub(response, hub, named);
  return await readGguf(path, (url) => openUrl(url, { signal, headers, refuse }), { headerOnly: dataMayBeMissing });
}
