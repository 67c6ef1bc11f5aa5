import { StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";
import type { FolderVariable } from "../system/homeDirectory.ts";
import { readGguf } from "../weights/gguf/reader.ts";
import type { WantedFile } from "./download.ts";
import { authorization, type Hub } from "./hub.ts";
import { RepositoryCache } from "./hubCache.ts";
import { fileUrl, type HubFile, type HubListing, listRepository, refusedByHub } from "./hubListing.ts";
import { findLocalModel, type LocalModel } from "./localModels.ts";
import { type HubName, hubNameText } from "./modelName.ts";
import { bringFiles, type FetchOptions } from "./pull.ts";
import { chooseModel, modelsAmong } from "./quantization.ts";

/** Names the folder that models of hubs are in. */
const variable: FolderVariable = "HF_HUB_CACHE";

/** A model as a hub lists it. */
export interface HubModel {
  /** Its name with the choice that was made. */
  readonly name: string;
  readonly repo: string;
  readonly commit: string;
  readonly files: readonly HubFile[];
  /** Where its first file can be read. */
  readonly url: string;
}

/**
 * Finds a model on a hub, and chooses its quantization where none was named. Throws `QUANTIZATION_NOT_FOUND` and what
 * `listRepository` throws.
 */
export async function findOnHub(hub: Hub, name: HubName, signal?: AbortSignal): Promise<HubModel> {
  const listing = await listRepository(hub, name, signal);
  const models = modelsAmong(listing.paths);
  const model = chooseModel(models, name.choice);
  if (model === undefined) throw notFound(name, listing, [...new Set(models.map(({ label, path }) => label ?? path))]);
  const missing = model.parts.find((part) => !listing.paths.includes(part));
  if (missing !== undefined) throw notFound({ ...name, choice: `file ${missing}` }, listing, listing.paths);
  const { repo, commit } = listing;
  const choice = model.label ?? model.path;
  return {
    name: hubNameText({ repo, revision: name.revision, choice }),
    repo,
    commit,
    files: model.parts.map(listing.file),
    url: fileUrl(hub, repo, commit, model.path),
  };
}

/**
 * Brings a model here from a hub, as far as it is not, and shows it under its names in the directory that programs of
 * Hugging Face share. Throws what `findOnHub` and `bringFiles` throw, and `GGUF_INVALID` for what is no model.
 */
export async function pullFromHub(
  hub: Hub,
  name: HubName,
  options: FetchOptions & { onFound?: ((model: HubModel) => void) | undefined },
): Promise<LocalModel> {
  const model = await findOnHub(hub, name, options.signal);
  options.onFound?.(model);
  const cache = new RepositoryCache(hub.directory, model.repo);
  const files = model.files.map((file) => wantedFile(hub, name, model, cache, file));
  await bringFiles(model.name, files, options);
  await keep(cache, async () => {
    for (const { digest, path } of model.files) await cache.show(digest, model.commit, path);
  });
  await readGguf(cache.file(model.commit, model.files[0]!.path));
  await keep(cache, () => cache.setCommit(name.revision, model.commit));
  const choice = model.files[0]!.path;
  return (await findLocalModel(hub.directory, { repo: model.repo, revision: model.commit, choice }))!;
}

function keep(cache: RepositoryCache, write: () => Promise<void>): Promise<void> {
  return writingTo(cache.path, variable, write);
}

function wantedFile(hub: Hub, name: HubName, model: HubModel, cache: RepositoryCache, file: HubFile): WantedFile {
  const { path, bytes, digest } = file;
  return {
    name: `${model.repo}/${path}`,
    url: fileUrl(hub, model.repo, model.commit, path),
    target: cache.blob(digest),
    variable,
    bytes,
    digest,
    headers: (address) => authorization(hub, address),
    refuse: (response) => refusedByHub(response, hub, name),
  };
}

function notFound(name: HubName, { repo }: HubListing, there: readonly string[]): StelliumError {
  const most = 40;
  const shown = there.slice(0, most).join(", ") || "no GGUF files";
  return new StelliumError("QUANTIZATION_NOT_FOUND", {
    model: repo,
    choice: name.choice ?? "GGUF file",
    there: there.length > most ? `${shown} and ${there.length - most} more` : shown,
  });
}
