import { readdir, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RepositoryCache } from "./hubCache.ts";
import { filesBelow, type LocalModel } from "./localModels.ts";
import { removePartials } from "./partialFile.ts";

/**
 * Removes a model, at every commit that is here, and the blobs that nothing else needs. Other files of the repository
 * stay. A process that has the model open goes on undisturbed. Returns how many bytes that frees.
 */
export async function removeModel(hubDirectory: string, { repo, parts }: LocalModel): Promise<number> {
  const cache = new RepositoryCache(hubDirectory, repo);
  const removed = new Set<bigint>();
  for (const path of await filesBelow(cache.snapshots)) {
    if (!parts.includes(path.slice(path.indexOf("/") + 1))) continue;
    const file = join(cache.snapshots, path);
    const inode = await inodeOf(file);
    if (inode !== undefined) removed.add(inode);
    await rm(file, { force: true });
    await removeEmpty(dirname(file), cache.snapshots);
  }
  const freed = await removeBlobs(cache, removed);
  await removeIfEmpty(cache);
  return freed;
}

/**
 * Removes what downloads that were stopped have left of a repository, and its directory where nothing else is in it.
 * Returns how many bytes that frees.
 */
export async function removeLeftovers(hubDirectory: string, repo: string): Promise<number> {
  const cache = new RepositoryCache(hubDirectory, repo);
  const freed = await removePartials(cache.blobs);
  await removeIfEmpty(cache);
  return freed;
}

/** References to commits of which nothing is here are of no use. */
async function removeIfEmpty(cache: RepositoryCache): Promise<void> {
  const rest = [...(await filesBelow(cache.snapshots)), ...(await filesBelow(cache.blobs))];
  if (rest.length === 0) await rm(cache.path, { recursive: true, force: true });
}

/** Removes blobs by their inodes, unless something in a snapshot still shows them. A link has that of what it shows. */
async function removeBlobs(cache: RepositoryCache, removed: ReadonlySet<bigint>): Promise<number> {
  const shown = await Promise.all(
    (await filesBelow(cache.snapshots)).map((path) => inodeOf(join(cache.snapshots, path))),
  );
  let freed = 0;
  for (const name of await readdir(cache.blobs).catch(() => [])) {
    const path = join(cache.blobs, name);
    const inode = await inodeOf(path);
    if (inode === undefined || !removed.has(inode) || shown.includes(inode)) continue;
    freed += (await stat(path)).size;
    await rm(path, { force: true });
  }
  return freed;
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  return (await stat(path, { bigint: true }).catch(() => undefined))?.ino;
}

/** Removes a directory, and those above it below `root`, as long as nothing is in them. */
async function removeEmpty(directory: string, root: string): Promise<void> {
  for (let path = directory; path !== root; path = dirname(path)) {
    if (
      !(await rmdir(path).then(
        () => true,
        () => false,
      ))
    )
      return;
  }
}
