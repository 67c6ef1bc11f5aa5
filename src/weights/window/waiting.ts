import { StelliumError } from "../../errors.ts";
import { type WindowMemory, windowCell } from "./windowMemory.ts";

/** How often a wait looks whether it is to stop, in milliseconds. */
const lookInterval = 25;
/** A disk that delivers nothing for so long, in milliseconds, is given up. */
const patience = 60_000;

/** What a wait for readers is for. */
export interface Wait {
  readonly memory: WindowMemory;
  readonly reached: () => boolean;
  /** Whether to stop waiting. */
  readonly stopped: () => boolean;
  /** What is read from, for messages. */
  readonly path: string;
}

/** Waits for what readers do. Returns false where it was stopped. Throws `FILE_UNREADABLE` where they do nothing. */
export function awaitReaders({ memory: { cells }, reached, stopped, path }: Wait): boolean {
  let lastNews = performance.now();
  for (;;) {
    const seen = Atomics.load(cells, windowCell.news);
    if (reached()) return true;
    if (stopped()) return false;
    const idle = Atomics.wait(cells, windowCell.news, seen, lookInterval) === "timed-out";
    if (!idle) lastNews = performance.now();
    if (performance.now() - lastNews > patience) throw stalled(path);
  }
}

function stalled(path: string): StelliumError {
  const reason = `the disk has delivered nothing for ${patience / 1000} s`;
  return new StelliumError("FILE_UNREADABLE", { path, reason });
}
