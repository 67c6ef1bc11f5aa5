import { dirname } from "node:path";
import { StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";
import { makeFolder } from "../system/makeFolder.ts";
import { realDisk, type SliceDisk } from "../weights/sliceDisk.ts";
import { type DownloadOptions, download, type FileProgress, isComplete, type WantedFile } from "./download.ts";
import { partialBytes } from "./partialFile.ts";

/** How far a model is. Bytes of all its files together. */
export interface PullProgress {
  /** Bytes that are there. */
  readonly bytes: number;
  readonly total: number;
  /** Bytes that came over the network, now. */
  readonly fetched: number;
}

/** How models are pulled. */
export interface FetchOptions extends DownloadOptions {
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Tests put a full one in the place of the disk there is. */
  readonly disk?: Pick<SliceDisk, "usable"> | undefined;
}

/** Files of one model that are fetched at the same time. */
const mostAtOnce = 3;

/**
 * Brings the files of a model to their places, some of them side by side, unless they are there. Throws
 * `MODEL_DISK_FULL` before anything is fetched, and what `download` throws: then all stop, and what has come is kept.
 */
export async function bringFiles(model: string, files: readonly WantedFile[], options: FetchOptions): Promise<void> {
  const { signal, backoff, onProgress } = options;
  await checkRoom(model, files, options.disk ?? realDisk);
  const bytes = files.map(() => 0);
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  let fetched = 0;
  const tell = (file: number, progress: FileProgress) => {
    bytes[file] = progress.bytes;
    fetched += progress.came;
    onProgress?.({ bytes: bytes.reduce((sum, each) => sum + each), total, fetched });
  };
  const failed = new AbortController();
  const either = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const tasks = files.map(
    (file, i) => () => download(file, (progress) => tell(i, progress), { signal: either, backoff }),
  );
  await allOf(tasks, failed);
}

/** Does some tasks at a time. The first one that fails ends the others; all have ended when this does. */
async function allOf(tasks: (() => Promise<void>)[], failed: AbortController): Promise<void> {
  let failure: { error: unknown } | undefined;
  const work = async () => {
    for (let task = tasks.shift(); task !== undefined && failure === undefined; task = tasks.shift()) {
      await task().catch((error: unknown) => {
        failure ??= { error };
        failed.abort();
      });
    }
  };
  await Promise.all(Array.from({ length: mostAtOnce }, work));
  if (failure !== undefined) throw failure.error;
}

async function checkRoom(model: string, files: readonly WantedFile[], disk: Pick<SliceDisk, "usable">): Promise<void> {
  const { target, variable } = files[0]!;
  const directory = dirname(target);
  await writingTo(directory, variable, async () => makeFolder(directory));
  let needed = 0;
  for (const file of files) {
    if (!(await isComplete(file))) needed += Math.max(0, file.bytes - (await partialBytes(file.target)));
  }
  const usable = needed === 0 ? 0 : await disk.usable(directory);
  if (needed <= usable) return;
  const figures = { needed: `${gigabytes(needed)} more`, available: gigabytes(usable) };
  throw new StelliumError("MODEL_DISK_FULL", { model, path: directory, ...figures });
}

function gigabytes(bytes: number): string {
  return `${Number((bytes / 1e9).toPrecision(3))} GB`;
}
