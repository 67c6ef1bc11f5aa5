import type { FileHandle } from "node:fs/promises";
import { stat } from "node:fs/promises";
import { StelliumError } from "../errors.ts";
import { cacheUnwritable, isFull, isRefusedBySystem } from "../system/cacheFolder.ts";
import type { FolderVariable } from "../system/homeDirectory.ts";
import { openUrl, type UrlSource } from "../weights/httpSource.ts";
import { type Digest, startDigest } from "./digest.ts";
import { PartialFile } from "./partialFile.ts";

/** A file to be brought here. */
export interface WantedFile {
  /** What to call it in messages. */
  readonly name: string;
  readonly url: string;
  /** Where it is to be, in a directory that is there. */
  readonly target: string;
  /** Variable that names its folder. */
  readonly variable: FolderVariable;
  readonly bytes: number;
  /** What it has to hash to; undefined where nobody says. */
  readonly digest: Digest | undefined;
  readonly headers?: (address: string) => Record<string, string>;
  /** The error for a response that is none of the file, where it means more than that there is no such file. */
  readonly refuse?: (response: Response) => Error | undefined;
}

/** How a file is brought. */
export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds before the second attempt to connect; see `AttemptOptions`. */
  readonly backoff?: number | undefined;
}

/** How far a file is. */
export interface FileProgress {
  /** Bytes that are there. */
  readonly bytes: number;
  /** Bytes that have come over the network since it was told before. */
  readonly came: number;
}

/** With the longest wait of 10 s between them, a network may be away for about three minutes. */
const attempts = 20;
const readBytes = 2 ** 20;

/**
 * Brings a file to its place, from where an earlier attempt ended. Its bytes are hashed as they come, and it gets its
 * name only if they are what they have to be. Where another process brings the same file, waits for that. Throws
 * `DOWNLOAD_INVALID`, `URL_UNREADABLE`, `URL_CHANGED`, `MODEL_DISK_FULL`, `CACHE_UNWRITABLE`, `ABORTED`, and what `refuse`
 * says; what has come is kept, unless it was wrong.
 */
export async function download(
  wanted: WantedFile,
  onProgress: (progress: FileProgress) => void,
  options: DownloadOptions = {},
): Promise<void> {
  const waiting = (bytes: number) => onProgress({ bytes: Math.min(bytes, wanted.bytes), came: 0 });
  for (let ended = false; !ended; ) {
    const claim = () => PartialFile.claim(wanted.target, () => isComplete(wanted), waiting, options.signal);
    await using partial = await onDisk(wanted, claim);
    ended = partial === undefined || (await fill(partial, wanted, onProgress, options));
  }
  onProgress({ bytes: wanted.bytes, came: 0 });
}

/** Whether the file is in its place already. */
export async function isComplete({ target, bytes }: Pick<WantedFile, "target" | "bytes">): Promise<boolean> {
  const found = await stat(target).catch(() => undefined);
  return found?.isFile() === true && found.size === bytes;
}

/** Fetches what is missing, and all of it once more where what was there proves wrong. False: see `complete`. */
async function fill(
  partial: PartialFile,
  wanted: WantedFile,
  onProgress: (progress: FileProgress) => void,
  { signal, backoff }: DownloadOptions,
): Promise<boolean> {
  const { url, headers, refuse, bytes } = wanted;
  const source = await openUrl(url, { signal, backoff, headers, wholeFiles: true, ...(refuse && { refuse }) });
  try {
    if (source.size !== bytes) throw invalid(wanted, `it has ${source.size} bytes in place of ${bytes}`);
    const had = (await partial.handle.stat()).size;
    let wrong = await fetchRest(partial, source, wanted, onProgress);
    if (wrong !== undefined && had > 0) wrong = await fetchRest(partial, source, wanted, onProgress);
    if (wrong !== undefined) throw invalid(wanted, wrong);
    return await onDisk(wanted, () => partial.complete());
  } finally {
    await source.close();
  }
}

/** Why what came is not the file, which is thrown away then; undefined where it is. */
async function fetchRest(
  { handle }: PartialFile,
  source: UrlSource,
  wanted: WantedFile,
  onProgress: (progress: FileProgress) => void,
): Promise<string | undefined> {
  const { bytes, digest } = wanted;
  const hash = digest && startDigest(digest, bytes);
  const had = await onDisk(wanted, () => hashStart(handle, bytes, (piece) => hash?.update(piece)));
  let done = had;
  const sink = async (piece: Uint8Array) => {
    hash?.update(piece);
    await onDisk(wanted, () => write(handle, piece, done));
    done += piece.length;
    onProgress({ bytes: done, came: piece.length });
  };
  onProgress({ bytes: done, came: 0 });
  await source.stream(had, sink, attempts);
  const found = hash?.digest("hex");
  if (found === digest?.hex) return undefined;
  await onDisk(wanted, () => handle.truncate(0));
  return `its ${digest!.algorithm === "sha256" ? "SHA-256" : "Git hash"} is ${found} in place of ${digest!.hex}`;
}

/** Hands on what a file begins with, and returns its length. What is behind `most` bytes is none of it. */
async function hashStart(handle: FileHandle, most: number, update: (piece: Uint8Array) => void): Promise<number> {
  const { size } = await handle.stat();
  if (size > most) await handle.truncate(most);
  const buffer = new Uint8Array(readBytes);
  let done = 0;
  while (done < most) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(readBytes, most - done), done);
    if (bytesRead === 0) break;
    update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
  return done;
}

async function write(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }
}

async function onDisk<T>({ target, name, variable }: WantedFile, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (isFull(error)) {
      throw new StelliumError("MODEL_DISK_FULL", { model: name, path: target, needed: "more", available: "nothing" });
    }
    throw isRefusedBySystem(error) ? cacheUnwritable(target, variable, error) : error;
  }
}

function invalid({ name }: WantedFile, reason: string): StelliumError {
  return new StelliumError("DOWNLOAD_INVALID", { name, reason });
}
