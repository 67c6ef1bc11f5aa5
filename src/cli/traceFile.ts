import { log } from "../log.ts";
import { outputPath, replaceFile, writeAll } from "../system/outputFile.ts";
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
  const target = outputPath(path);
  write(target, []);
  return (ranks) => {
    try {
      write(target, chromeTrace(ranks));
    } catch (error) {
      log("error", error instanceof Error ? error.message : String(error));
    }
  };
}

function write(path: string, pieces: Iterable<string>): void {
  replaceFile(path, (file) => {
    for (const batch of batches(pieces)) writeAll(file, Buffer.from(batch));
  });
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
