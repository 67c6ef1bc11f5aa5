import { StelliumError } from "../errors.ts";

/** What may be shown after a piece of text, and the stop string that ended it, if one did. */
export interface StopResult {
  text: string;
  stop?: string;
}

/** Cuts a stream of text before the first stop string. */
export interface StopScanner {
  /** Takes the next piece. A tail that may still become a stop string is held back; after a stop nothing comes out. */
  push(text: string): StopResult;
  /** The held tail, when the text ends without a stop. */
  flush(): string;
}

/**
 * The first stop string is the one that is complete first; of several that end at the same character, the longest.
 * How the text is divided into pieces makes no difference.
 *
 * @throws StelliumError `BAD_USAGE` for an empty stop string
 */
export function createStopScanner(stops: readonly string[]): StopScanner {
  if (stops.includes("")) throw new StelliumError("BAD_USAGE", { detail: "a stop string must not be empty" });
  let held = "";
  let stopped = false;
  const push = (piece: string): StopResult => {
    if (stopped) return { text: "" };
    const text = held + piece;
    const match = firstMatch(text, stops);
    stopped = match !== undefined;
    const end = match ? match.start : text.length - tailLength(text, stops);
    held = stopped ? "" : text.slice(end);
    return { text: text.slice(0, end), ...(match && { stop: match.stop }) };
  };
  const flush = () => {
    const rest = held;
    held = "";
    return rest;
  };
  return { push, flush };
}

interface Match {
  start: number;
  end: number;
  stop: string;
}

function firstMatch(text: string, stops: readonly string[]): Match | undefined {
  let first: Match | undefined;
  for (const stop of stops) {
    const start = text.indexOf(stop);
    const end = start + stop.length;
    const earlier = !first || end < first.end || (end === first.end && start < first.start);
    if (start >= 0 && earlier) first = { start, end, stop };
  }
  return first;
}

/** Length of the longest end of `text` that begins a stop string. */
function tailLength(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1));
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    const tail = text.slice(text.length - length);
    if (stops.some((stop) => stop.length > length && stop.startsWith(tail))) return length;
  }
  return 0;
}
