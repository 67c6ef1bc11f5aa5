import { StelliumError } from "../errors.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import { endpointOf, type Hub, hubFromEnvironment } from "./hub.ts";
import type { HubModel } from "./hubModels.ts";
import { findLocalModel } from "./localModels.ts";
import { type HubName, hubNameText, parseModelName } from "./modelName.ts";
import type { FetchOptions } from "./pull.ts";

/** Options for turning a model's name into a path or a URL. */
export interface ResolveOptions extends FetchOptions {
  /** Whether nothing may be fetched: what is not on this device is refused. */
  readonly offline?: boolean | undefined;
  /** Told what a hub has, before it is fetched. */
  readonly onFound?: ((model: HubModel) => void) | undefined;
  /** Whether only the header is wanted: then what is not on this device is not fetched, but named by its URL. */
  readonly headerOnly?: boolean | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Where models from URLs are; see `urlDirectory`. */
  readonly urlDirectory?: string | undefined;
}

/**
 * What to open for the name of a model, as a person writes it (see `parseModelName`): the path of a file of this device,
 * or a URL. A hub's model is taken from this device if it is there, and fetched otherwise. A URL stays one, to be read
 * over the network, unless `pullModel` has brought it here.
 * Throws `BAD_USAGE`, `MODEL_NOT_HERE` when offline, and what `pullFromHub` throws.
 */
export async function resolveModel(name: string, options: ResolveOptions = {}): Promise<string> {
  const { environment = process.env } = options;
  const model = parseModelName(name, endpointOf(environment));
  if (model.kind === "file") return model.path;
  const hub = await hubFromEnvironment(environment, options.offline);
  if (model.kind === "hub") return await resolveHubModel(hub, model.hub, options);
  const { findUrlModel, urlDirectory } = await import("./urlModels.ts");
  const directory = options.urlDirectory ?? unlessHomeless(() => urlDirectory());
  const fetched = async () => directory && (await findUrlModel(directory, model.url))?.files[0];
  const here = (await localFile(hub, model.hub)) ?? (await fetched());
  if (here !== undefined) return here;
  if (hub.offline) throw notHere(name);
  return model.url;
}

/**
 * Fetches the newest version of a model to this device, as far as it is not there. Returns paths of its files. Throws
 * `BAD_USAGE` for a path, `MODEL_NOT_HERE` when offline, and what `pullFromHub` and `pullUrl` throw.
 */
export async function pullModel(name: string, options: ResolveOptions = {}): Promise<readonly string[]> {
  const hub = await hubFromEnvironment(options.environment, options.offline);
  const model = parseModelName(name, hub.endpoint);
  if (model.kind === "file")
    throw new StelliumError("BAD_USAGE", { detail: `${name} is a file, and nothing to fetch` });
  if (hub.offline) throw notHere(name);
  if (model.hub !== undefined) {
    const { pullFromHub } = await import("./hubModels.ts");
    return (await pullFromHub(hub, model.hub, options)).files;
  }
  const { pullUrl, urlDirectory } = await import("./urlModels.ts");
  return (await pullUrl(options.urlDirectory ?? urlDirectory(), name, options)).files;
}

async function resolveHubModel(hub: Hub, name: HubName, options: ResolveOptions): Promise<string> {
  const here = await localFile(hub, name);
  if (here !== undefined) return here;
  if (hub.offline) throw notHere(hubNameText(name));
  const { findOnHub, pullFromHub } = await import("./hubModels.ts");
  if (options.headerOnly) return (await findOnHub(hub, name, options.signal)).url;
  return (await pullFromHub(hub, name, options)).files[0]!;
}

async function localFile(hub: Hub, name: HubName | undefined): Promise<string | undefined> {
  const directory = unlessHomeless(() => hub.directory);
  return name && directory && (await findLocalModel(directory, name))?.files[0];
}

function notHere(model: string): StelliumError {
  return new StelliumError("MODEL_NOT_HERE", { model });
}
