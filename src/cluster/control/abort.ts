import { setMaxListeners } from "node:events";

/** Calls `action` when the signal is aborted, until what it returns is called. One signal may stop any number of things. */
export function onAbort(signal: AbortSignal | undefined, action: () => void): () => void {
  if (!signal) return () => {};
  // Node warns of a leak from the eleventh on, and there may be 63 workers.
  setMaxListeners(0, signal);
  signal.addEventListener("abort", action);
  return () => signal.removeEventListener("abort", action);
}
