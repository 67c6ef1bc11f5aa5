import { closeSync, openSync, writeSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { chromeTrace } from "../trace/chrome.ts";
import type { RankTrace } from "../trace/events.ts";

/** Pieces that are written together. */
const batchLength = 1 << 20;

/**
 * Makes a file for a trace now, so that one that cannot be written is refused before there is anything to write.
 * Throws `FILE_UNWRITABLE`.
 *
 * @returns what writes the trace; where that fails it says so on stderr, since what was traced has been done
 */
export function traceFile(path: string): (ranks: readonly RankTrace[]) => void {
  write(path, []);
  return (ranks) => {
    try {
      write(path, chromeTrace(ranks));
    } catch (error) {
      log("error", error instanceof Error ? error.message : String(error));
    }
  };
}

function write(path: string, pieces: Iterable<string>): void {
  try {
    const file = openSync(path, "w");
    try {
      for (const batch of batches(pieces)) writeAll(file, Buffer.from(batch));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw new StelliumError("FILE_UNWRITABLE", { path, reason: reasonOf(error) }, { cause: error });
  }
}

function writeAll(file: number, bytes: Buffer): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}

function* batches(pieces: Iterable<string>): Generator<string, void> {
  let batch = "";
  for (const piece of pieces) {
    batch += piece;
    if (batch.length < batchLength) continue;
    yield batch;
    batch = "";
  }
  yield batch;
}
