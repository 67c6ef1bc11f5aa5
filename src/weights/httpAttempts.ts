import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf, StelliumError } from "../errors.ts";
import { checkedRedirect } from "./httpRange.ts";

/** How something is asked for over HTTP. Times in milliseconds. */
export interface AttemptOptions {
  readonly signal?: AbortSignal | undefined;
  /** How often in a row an attempt may fail without having got further. */
  readonly attempts: number;
  /** Wait before the second attempt; each further wait is twice as long, up to 10 s. */
  readonly backoff: number;
  /** How long a server may send nothing. */
  readonly patience: number;
  /** What is sent along to an address, and to no other one that it redirects to. */
  readonly headers?: ((address: string) => Record<string, string>) | undefined;
}

/** What is asked for unless something else is said. */
export const attemptDefaults = { attempts: 6, backoff: 250, patience: 30_000 } as const;

const longestWait = 10_000;
const mostRedirects = 10;
/** An attempt that brought so many bytes counts as progress: the failures before it are forgotten. */
const progressBytes = 64 * 2 ** 10;

/** A failure after which another attempt may succeed, to be made after `wait` milliseconds at the earliest. */
export class Passing extends Error {
  readonly wait: number;

  constructor(reason: string, wait = 0, options?: ErrorOptions) {
    super(reason, options);
    this.wait = wait;
  }
}

/** A failure that no further attempt will mend: the request leads to where it should not. */
export class Misled extends Error {}

/** Counts how long nothing comes. */
export interface Silence {
  /** Something came, and what is done with it may take its time. */
  end(): void;
  /** More is waited for. */
  begin(): void;
}

/**
 * Attempts until one succeeds. `progress` tells how many bytes all of them have brought. Throws what is no `Passing` at
 * once; the last `Passing` after too many failures in a row; `ABORTED`.
 */
export async function persist<T>(
  options: AttemptOptions,
  attempt: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  for (let failures = 0; ; ) {
    const before = progress();
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Passing)) throw error;
      failures = progress() - before >= progressBytes ? 1 : failures + 1;
      if (failures >= options.attempts)
        throw new Passing(`${error.message} (after ${failures} attempts)`, 0, { cause: error });
      await pause(failures, error, options);
    }
  }
}

/**
 * Asks once for what is at `address`, wherever that redirects to, and has `use` read the response. Its body is not kept
 * open. Throws `Passing` for connections that fail or fall silent, `Misled`, `ABORTED`, and what `use` throws.
 */
export async function requestOnce<T>(
  address: string,
  init: RequestInit,
  options: AttemptOptions,
  use: (response: Response, address: string, silence: Silence) => Promise<T>,
): Promise<T> {
  const stalled = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stalled.signal]) : stalled.signal;
  const patience = new Patience(options.patience, () => stalled.abort());
  try {
    patience.begin();
    const followed = await follow(address, { ...init, signal }, options);
    try {
      return await use(followed.response, followed.address, patience);
    } finally {
      // A body that nobody reads would keep its connection.
      if (!followed.response.bodyUsed) await followed.response.body?.cancel().catch(() => {});
    }
  } catch (error) {
    if (options.signal?.aborted) throw abortedBy(options.signal, error);
    if (stalled.signal.aborted) throw new Passing(`nothing came for ${options.patience} ms`);
    throw isKnown(error) ? error : new Passing(causeOf(error as Error), 0, { cause: error });
  } finally {
    patience.end();
  }
}

function isKnown(error: unknown): boolean {
  return error instanceof StelliumError || error instanceof Passing || error instanceof Misled;
}

/** `fetch failed` alone would say nothing. */
function causeOf({ message, cause }: Error): string {
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}

async function follow(address: string, init: RequestInit, { headers }: AttemptOptions) {
  for (let hops = 0, at = address; hops <= mostRedirects; hops++) {
    const own = { ...(init.headers as Record<string, string>), ...headers?.(at) };
    const response = await fetch(at, { ...init, headers: own, redirect: "manual" });
    const next = checkedRedirect(response, at);
    if (next === undefined) return { response, address: at };
    await response.body?.cancel();
    if (next instanceof Error) throw new Misled(next.message);
    at = next;
  }
  throw new Misled(`it redirects more than ${mostRedirects} times`);
}

async function pause(failures: number, { wait }: Passing, { backoff, signal }: AttemptOptions): Promise<void> {
  const doubled = Math.min(longestWait, backoff * 2 ** (failures - 1));
  // Devices that were cut off together should not come back together.
  const time = Math.max(wait, doubled * (0.75 + Math.random() / 2));
  try {
    await sleep(time, undefined, { signal });
  } catch (error) {
    throw abortedBy(signal!, error);
  }
}

function abortedBy({ reason }: AbortSignal, cause: unknown): StelliumError {
  return new StelliumError("ABORTED", { reason: reasonOf(reason) }, { cause });
}

class Patience implements Silence {
  readonly #ms: number;
  readonly #lost: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number, lost: () => void) {
    this.#ms = ms;
    this.#lost = lost;
  }

  begin(): void {
    this.end();
    this.#timer = setTimeout(this.#lost, this.#ms);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}
