import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { RepositoryCache } from "./hubCache.ts";
import { type HubName, hubNameText, isRepository } from "./modelName.ts";
import { leftoverBytes } from "./partialFile.ts";
import { chooseModel, type ListedModel, modelsAmong } from "./quantization.ts";

/** A model of a hub that is on this device, complete. */
export interface LocalModel extends ListedModel {
  readonly repo: string;
  readonly commit: string;
  /** Paths of its files on this device, in order. */
  readonly files: readonly string[];
  readonly bytes: number;
  /** When the last of its files came. */
  readonly modified: Date;
}

/** A model of this device and what it is called here; the name names this one and no other. */
export interface NamedModel extends LocalModel {
  readonly name: string;
}

/** What downloads that were stopped have left of a repository. */
export interface Leftover {
  readonly repo: string;
  readonly bytes: number;
}

const deepest = 8;

/** All models of a hub that are on this device, by name. The same model at several commits counts once, the newest. */
export async function listLocalModels(hubDirectory: string): Promise<NamedModel[]> {
  const repositories = await localRepositories(hubDirectory);
  const models = await Promise.all(repositories.map((repo) => modelsOfRepository(hubDirectory, repo)));
  return models.flatMap(named).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The model of this device that is meant, or undefined. Its revision's commit as it was last asked for is looked at
 * first, and for the branch `main` what is left of older ones. Without a choice, it is chosen among what is here.
 */
export async function findLocalModel(hubDirectory: string, name: HubName): Promise<LocalModel | undefined> {
  const wanted = name.repo.toLowerCase();
  const repo = (await localRepositories(hubDirectory)).find((each) => each.toLowerCase() === wanted);
  if (repo === undefined) return undefined;
  const cache = new RepositoryCache(hubDirectory, repo);
  const commit = await cache.commitOf(name.revision);
  const commits = name.revision === "main" ? await commitsOf(cache) : [];
  for (const each of new Set(commit === undefined ? commits : [commit, ...commits])) {
    const models = await modelsAt(cache, repo, each);
    const found = chooseModel(models, name.choice);
    if (found !== undefined) return models.find((model) => model.path === found.path);
  }
  return undefined;
}

/** The models of a repository, each once, of the newest commit that has it. */
export async function modelsOfRepository(hubDirectory: string, repo: string): Promise<LocalModel[]> {
  const cache = new RepositoryCache(hubDirectory, repo);
  const newest = new Map<string, LocalModel>();
  for (const commit of await commitsOf(cache)) {
    for (const model of await modelsAt(cache, repo, commit)) {
      if (!newest.has(model.path)) newest.set(model.path, model);
    }
  }
  return [...newest.values()];
}

/** What downloads that were stopped have left, by repository. */
export async function listLeftovers(hubDirectory: string): Promise<Leftover[]> {
  const repositories = await localRepositories(hubDirectory);
  const leftovers = repositories.map(async (repo) => {
    return { repo, bytes: await leftoverBytes(new RepositoryCache(hubDirectory, repo).blobs) };
  });
  return (await Promise.all(leftovers)).filter(({ bytes }) => bytes > 0);
}

/** Names of the repositories that have a directory. */
export async function localRepositories(hubDirectory: string): Promise<string[]> {
  const entries = await entriesOf(hubDirectory);
  return entries
    .map(({ name }) => /^models--(.+)$/.exec(name)?.[1]?.replace("--", "/") ?? "")
    .filter((repo) => isRepository(repo));
}

/** Gives each model of one repository a name: by its quantization where that is enough. */
export function named(models: readonly LocalModel[]): NamedModel[] {
  return models.map((model) => {
    const alone = models.filter(({ label }) => label === model.label).length === 1;
    const choice = alone && model.label !== undefined ? model.label : model.path;
    return { ...model, name: hubNameText({ repo: model.repo, revision: "main", choice }) };
  });
}

/** The commits that are here, the newest first. */
async function commitsOf(cache: RepositoryCache): Promise<string[]> {
  const entries = await entriesOf(cache.snapshots);
  const times = entries.map(async ({ name }) => {
    const found = await stat(join(cache.snapshots, name)).catch(() => undefined);
    return { name, time: found?.mtimeMs ?? 0 };
  });
  return (await Promise.all(times)).sort((a, b) => b.time - a.time).map(({ name }) => name);
}

async function modelsAt(cache: RepositoryCache, repo: string, commit: string): Promise<LocalModel[]> {
  const directory = join(cache.snapshots, commit);
  const models = modelsAmong(await filesBelow(directory));
  const complete = await Promise.all(models.map((model) => completed({ ...model, repo, commit }, directory)));
  return complete.filter((model) => model !== undefined);
}

/** Undefined where a part is missing: a link without its file, or no link. */
async function completed(
  model: ListedModel & Pick<LocalModel, "repo" | "commit">,
  directory: string,
): Promise<LocalModel | undefined> {
  const files = model.parts.map((part) => join(directory, ...part.split("/")));
  const found = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  if (found.some((file) => file?.isFile() !== true)) return undefined;
  const bytes = found.reduce((sum, file) => sum + file!.size, 0);
  return { ...model, files, bytes, modified: new Date(Math.max(...found.map((file) => file!.mtimeMs))) };
}

/** Files and links below a directory, with slashes, in order. */
export async function filesBelow(directory: string, prefix = "", depth = 1): Promise<string[]> {
  if (depth > deepest) return [];
  const paths: string[] = [];
  for (const entry of await entriesOf(join(directory, prefix))) {
    const path = `${prefix}${entry.name}`;
    if (entry.isDirectory()) paths.push(...(await filesBelow(directory, `${path}/`, depth + 1)));
    else paths.push(path);
  }
  return paths.sort();
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  return await readdir(directory, { withFileTypes: true }).catch(() => []);
}
