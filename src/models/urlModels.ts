import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writingTo } from "../system/cacheFolder.ts";
import type { FolderVariable } from "../system/homeDirectory.ts";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import { readGguf } from "../weights/gguf/reader.ts";
import { partPaths } from "../weights/gguf/split.ts";
import { openUrl } from "../weights/httpSource.ts";
import { checkUrl } from "../weights/modelUrl.ts";
import { cacheDirectory, closeCache } from "../weights/sliceDirectory.ts";
import type { WantedFile } from "./download.ts";
import { isSafePath } from "./fileNames.ts";
import { bringFiles, type FetchOptions } from "./pull.ts";

/** A model from a URL that is no hub's, on this device, complete. */
export interface UrlModel {
  /** Of its first file. */
  readonly url: string;
  /** Paths of its files on this device, in order. */
  readonly files: readonly string[];
  readonly bytes: number;
  /** When the last of its files came. */
  readonly modified: Date;
}

/** Names the folder that models from URLs are in. */
const variable: FolderVariable = "STELLIUM_CACHE_DIR";
const noteName = "model.json";
const note = z.object({ url: z.string().max(10_000) });

/** Where models from URLs are, in a cache directory: a directory for each URL, and in it one for each version. */
export function urlDirectory(cache: string = cacheDirectory()): string {
  return join(cache, "urls");
}

/** The model of a URL, of any of its parts, if it is on this device. */
export async function findUrlModel(directory: string, url: string): Promise<UrlModel | undefined> {
  const parts = partPaths(url);
  const home = homeOf(directory, parts);
  const versions = (await readdir(home, { withFileTypes: true }).catch(() => [])).filter((entry) =>
    entry.isDirectory(),
  );
  const found = await Promise.all(versions.map(({ name }) => completeAt(join(home, name), parts)));
  return found.filter((model) => model !== undefined).sort((a, b) => b.modified.getTime() - a.modified.getTime())[0];
}

/** All models of URLs that are on this device. */
export async function listUrlModels(directory: string): Promise<UrlModel[]> {
  const homes = await readdir(directory).catch(() => []);
  const models = homes.map(async (home) => {
    const text = await readFile(join(directory, home, noteName), "utf8").catch(() => "{}");
    const parsed = note.safeParse(parseJson(text));
    return parsed.success ? await findUrlModel(directory, parsed.data.url) : undefined;
  });
  return (await Promise.all(models)).filter((model) => model !== undefined);
}

/**
 * Brings the model of a URL here, all its parts, unless this version of it is here. There is no hash to hold it to: its
 * length and the version that its server names have to stay the same. Throws `BAD_USAGE` for a URL that should not be
 * read, what `openUrl` and `bringFiles` throw, and `GGUF_INVALID`.
 */
export async function pullUrl(directory: string, url: string, options: FetchOptions): Promise<UrlModel> {
  checkUrl(url);
  closeCache();
  const parts = partPaths(url);
  const versions = await Promise.all(parts.map((part) => versionOf(part, options.signal)));
  const version = createHash("sha256").update(JSON.stringify(versions)).digest("hex").slice(0, 16);
  const home = homeOf(directory, parts);
  const target = join(home, version);
  const files = parts.map((part, i): WantedFile => {
    const [{ size: bytes }, path] = [versions[i]!, join(target, fileName(part))];
    return { name: part, url: part, target: path, variable, bytes, digest: undefined };
  });
  await bringFiles(url, files, options);
  await readGguf(files[0]!.target);
  await writingTo(home, variable, async () => {
    makeFolder(home);
    await writeFile(join(home, noteName), JSON.stringify({ url: parts[0] }), { mode: fileMode });
    await removeOthers(home, version);
  });
  return (await completeAt(target, parts))!;
}

/** Removes the model of a URL. Returns how many bytes that frees. */
export async function removeUrlModel(directory: string, { url, bytes }: UrlModel): Promise<number> {
  await rm(homeOf(directory, partPaths(url)), { recursive: true, force: true });
  return bytes;
}

async function versionOf(url: string, signal: AbortSignal | undefined) {
  const source = await openUrl(url, { signal, wholeFiles: true });
  await source.close();
  return source.version;
}

async function completeAt(directory: string, parts: readonly string[]): Promise<UrlModel | undefined> {
  const files = parts.map((part) => join(directory, fileName(part)));
  const found = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  if (found.some((file) => file?.isFile() !== true)) return undefined;
  const bytes = found.reduce((sum, file) => sum + file!.size, 0);
  return { url: parts[0]!, files, bytes, modified: new Date(Math.max(...found.map((file) => file!.mtimeMs))) };
}

async function removeOthers(home: string, version: string): Promise<void> {
  for (const entry of await readdir(home)) {
    if (entry !== version && entry !== noteName) await rm(join(home, entry), { recursive: true, force: true });
  }
}

function homeOf(directory: string, [first = ""]: readonly string[]): string {
  return join(directory, createHash("sha256").update(first).digest("hex").slice(0, 32));
}

/** The name that a file has in its URL, as far as every system can have it. */
function fileName(url: string): string {
  const last = new URL(url).pathname.split("/").at(-1) ?? "";
  const name = last.replaceAll(/%[0-9a-f]{2}|[^\w.-]/gi, "_").slice(-200);
  const gguf = /\.gguf$/i.test(name) ? name : `${name}.gguf`;
  return isSafePath(gguf) ? gguf : `model-${gguf.replaceAll(/^\.+/g, "")}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
