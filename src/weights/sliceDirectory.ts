import { createHash, randomBytes } from "node:crypto";
import { isAbsolute, join, resolve } from "node:path";
import { homeDirectory, unlessHomeless } from "../system/homeDirectory.ts";
import { closeFolder, closeTree } from "../system/makeFolder.ts";
import type { SliceContent } from "./sliceHeader.ts";

/** Ends the names of complete slices, and of those that are being written. */
export const sliceSuffix = { complete: ".slice", partial: ".part" } as const;

/**
 * The directory for what can be fetched again, as an absolute path: `STELLIUM_CACHE_DIR`, or `stellium` where the system
 * keeps such things. `XDG_CACHE_HOME` and `LOCALAPPDATA` are ignored unless they are absolute, as XDG's specification
 * demands. Throws `HOME_UNKNOWN`.
 */
export function cacheDirectory(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  const own = environment["STELLIUM_CACHE_DIR"];
  if (own) return resolve(own);
  return join(systemCache(environment, platform), "stellium");
}

function systemCache(environment: Readonly<Record<string, string | undefined>>, platform: NodeJS.Platform): string {
  const { LOCALAPPDATA: local, XDG_CACHE_HOME: xdg } = environment;
  if (platform === "win32") return local && isAbsolute(local) ? local : join(homeDirectory(), "AppData", "Local");
  if (platform === "darwin") return join(homeDirectory(), "Library", "Caches");
  return xdg && isAbsolute(xdg) ? xdg : join(homeDirectory(), ".cache");
}

/** Folders of a cache directory that earlier versions made readable to others. */
const oncePublic = ["slices", "heads", "links", "urls", "processes"];

/**
 * Closes what earlier versions left open to other users: the folders that Stellium makes in a cache directory, and the
 * default cache directory itself. The mode of a directory that the user names is the user's business.
 *
 * @param named - the cache directory that the user names, if any
 */
export function closeCache(named = process.env["STELLIUM_CACHE_DIR"] || undefined): void {
  const cache = unlessHomeless(() => named ?? cacheDirectory());
  if (cache === undefined) return;
  if (named === undefined) closeFolder(cache);
  for (const name of oncePublic) closeTree(join(cache, name));
}

/** Where slices are, in a cache directory. */
export function sliceDirectory(cache = cacheDirectory()): string {
  return join(cache, "slices");
}

/** The name of a slice's file, without suffix: one for each model and share. */
export function sliceName(content: Pick<SliceContent, "model" | "share" | "blocks">): string {
  const tensors = content.blocks.flatMap(({ kind, layer, tensors }) =>
    tensors.map(({ name, type, rows, columns }) => [kind, layer, name, type, rows, columns]),
  );
  const share = createHash("sha256").update(JSON.stringify(tensors)).digest("hex");
  return `${content.model.hash.slice(0, 16)}-${share.slice(0, 16)}`;
}

/** Path of a complete slice. */
export function slicePath(directory: string, content: Pick<SliceContent, "model" | "share" | "blocks">): string {
  return join(directory, `${sliceName(content)}${sliceSuffix.complete}`);
}

/** A path to write a slice at, unlike any other. It names the process that does; 0 is one that has stopped. */
export function partialPath(directory: string, name: string, pid = process.pid): string {
  const unique = `${pid}-${Date.now().toString(36)}-${randomBytes(4).toString("hex")}`;
  return join(directory, `${name}.${unique}${sliceSuffix.partial}`);
}

/** The process that writes a partial slice and when it began, in ms, by its file's name; undefined for other names. */
export function partialOwner(name: string): { pid: number; since: number } | undefined {
  const [, pid, since] = /\.(\d{1,10})-([0-9a-z]{1,10})-[0-9a-f]{8}\.part$/.exec(name) ?? [];
  return since === undefined ? undefined : { pid: Number(pid), since: Number.parseInt(since, 36) };
}
