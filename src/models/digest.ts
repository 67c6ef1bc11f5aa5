import { createHash } from "node:crypto";

/** What the bytes of a file have to hash to: SHA-256 for large files, git's SHA-1 of a blob for small ones. */
export interface Digest {
  readonly algorithm: "sha256" | "git-sha1";
  /** Hexadecimal, in small letters. It is the file's name among the blobs, too. */
  readonly hex: string;
}

/** A hash under way, of a file of `bytes` bytes. */
export function startDigest({ algorithm }: Digest, bytes: number) {
  return algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);
}
