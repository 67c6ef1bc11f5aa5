import { stat } from "node:fs/promises";
import { join } from "node:path";
import { StelliumError } from "../errors.ts";
import { readGguf } from "./gguf/reader.ts";
import { bytesOnDisk, byUse, entriesOf, type Kept } from "./kept.ts";
import { partialOwner, sliceSuffix } from "./sliceDirectory.ts";
import { isRunning } from "./slicePartials.ts";

/** What is kept of a remote model so that text can be made of it: its headers with the vocabulary, and its embedding. */
export interface ListedHead extends Kept {
  /** The model's name, or why it cannot be read. */
  readonly content: { readonly name: string } | { readonly problem: string };
}

/** What `localHead` has stored in a directory, the most recently used first; none where there is no such directory. */
export async function listHeads(directory: string): Promise<ListedHead[]> {
  const names = (await entriesOf(directory)).filter((name) => /^[0-9a-f]{32}(\..*)?$/.test(name));
  return byUse(await Promise.all(names.map((name) => listed(directory, name))));
}

/** Undefined where it was removed meanwhile. */
async function listed(directory: string, name: string): Promise<ListedHead | undefined> {
  const path = join(directory, name);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isDirectory()) return undefined;
  const files = (await entriesOf(path)).map((file) => join(path, file));
  const sizes = await Promise.all(files.map((file) => stat(file).then(bytesOnDisk, () => 0)));
  const owner = partialOwner(name);
  const content = name.endsWith(sliceSuffix.partial) ? { problem: "it is half stored" } : await contentOf(files);
  return {
    path,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    lastUsed: found.mtime,
    busy: owner !== undefined && isRunning(owner),
    useless: "problem" in content,
    content,
  };
}

async function contentOf([first]: readonly string[]): Promise<ListedHead["content"]> {
  if (first === undefined) return { problem: "it is empty" };
  try {
    const { metadata } = await readGguf(first);
    return { name: String(metadata.get("general.name") ?? "") };
  } catch (error) {
    if (!(error instanceof StelliumError)) throw error;
    return { problem: String(error.values["reason"]) };
  }
}
