import { StelliumError } from "../errors.ts";

/** Waits for `promise`, but no longer than `signal` allows: rejects with `ABORTED` then. */
export async function orAborted<T>(promise: Promise<T> | T, signal: AbortSignal | undefined): Promise<T> {
  if (promise === undefined || signal === undefined) return await promise;
  const stop = new AbortController();
  const stopped = new Promise<never>((_, reject) => {
    const abort = () => reject(new StelliumError("ABORTED", { reason: String(signal.reason) }));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { signal: stop.signal });
  });
  try {
    return await Promise.race([promise, stopped]);
  } finally {
    stop.abort();
  }
}
