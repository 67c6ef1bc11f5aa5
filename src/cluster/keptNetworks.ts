import { stat } from "node:fs/promises";
import { join } from "node:path";
import { bytesOnDisk, byUse, entriesOf, type Kept } from "../weights/kept.ts";

/** What rank 0 learned of networks in a directory, the most recent first; none where there is no such directory. */
export async function listNetworks(directory: string): Promise<Kept[]> {
  const names = (await entriesOf(directory)).filter((name) => name.endsWith(".json"));
  return byUse(await Promise.all(names.map((name) => listed(join(directory, name)))));
}

async function listed(path: string): Promise<Kept | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return undefined;
  return { path, bytes: bytesOnDisk(found), lastUsed: found.mtime, busy: false, useless: false };
}
