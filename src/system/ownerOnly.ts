import { randomBytes } from "node:crypto";
import { chmodSync, lchownSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileMode, folderMode, makeFolder } from "./makeFolder.ts";

/**
 * Makes a folder that only its owner can enter, and those above it, or narrows one that exists. Throws what the system
 * says of the folder that it refuses.
 */
export function makeOwnerOnlyFolder(path: string): void {
  const isNew = statSync(path, { throwIfNoEntry: false }) === undefined;
  makeFolder(path);
  if (isNew) giveToOwnerOf(dirname(path), path);
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, folderMode);
}

/**
 * Writes a file that only its owner can read, all of it or nothing. The content is on the disk when this resolves.
 * Rejects with what the system says.
 */
export async function writeOwnerOnly(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeNew(temporary, text);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Waits until the names in a folder are on the disk, if the system can say so. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", fileMode);
  try {
    await giveFileToOwnerOf(dirname(path), file);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What root writes for a service has to be readable by the service's user. */
function giveToOwnerOf(parent: string, path: string): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(parent);
  lchownSync(path, uid, gid);
}

async function giveFileToOwnerOf(parent: string, file: FileHandle): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(parent);
  await file.chown(uid, gid);
}
