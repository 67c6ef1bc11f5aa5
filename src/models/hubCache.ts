import { randomBytes } from "node:crypto";
import { link, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileMode, makeFolder } from "../system/makeFolder.ts";
import type { Digest } from "./digest.ts";
import { below } from "./fileNames.ts";

/**
 * The directory of one repository, laid out as `huggingface_hub` does: `blobs/DIGEST` are the files, `snapshots/COMMIT/`
 * has links to them by their names, `refs/REVISION` holds the commit that a branch or tag was at.
 */
export class RepositoryCache {
  readonly path: string;

  constructor(hubDirectory: string, repo: string) {
    this.path = join(hubDirectory, `models--${repo.replace("/", "--")}`);
  }

  get blobs(): string {
    return join(this.path, "blobs");
  }

  get snapshots(): string {
    return join(this.path, "snapshots");
  }

  blob({ hex }: Digest): string {
    return join(this.blobs, hex);
  }

  /** Where a file of a commit is. */
  file(commit: string, path: string): string {
    return below(join(this.snapshots, commit), path);
  }

  /** The commit that a revision was at when it was last asked for; itself if it is one. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readFile(below(join(this.path, "refs"), revision), "utf8").catch(() => "");
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** Notes the commit that a revision is at. */
  async setCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return;
    const path = below(join(this.path, "refs"), revision);
    await replace(path, (temporary) => writeFile(temporary, commit, { mode: fileMode }));
  }

  /** Shows a blob under its name in a commit. */
  async show(digest: Digest, commit: string, path: string): Promise<string> {
    const [shown, blob] = [this.file(commit, path), this.blob(digest)];
    await replace(shown, (temporary) => linkTo(blob, temporary));
    return shown;
  }
}

/** Whether a text is the name of a commit. */
export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** Windows lets few users make symbolic links; where there are no links at all, the blob itself moves. */
async function linkTo(blob: string, path: string): Promise<void> {
  const target = relative(dirname(path), blob);
  await symlink(target, path).catch(() => link(blob, path).catch(() => rename(blob, path)));
}

/** Has `make` make a file, and then gives it its place at once. */
async function replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  makeFolder(dirname(path));
  const temporary = `${path}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await make(temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}
