import { onAbort } from "./abort.ts";
import { Violation } from "./frames.ts";

/** Bytes of data frames that may be under way or unread at once, in each direction. */
export const windowBytes = 8 * 2 ** 20;
/** What a data frame costs besides its bytes, so that many small ones are bounded as well. */
const frameCost = 1024;
/** Credit is handed back when this much has been read, rather than for every frame. */
const creditStep = windowBytes / 8;

/** What a data frame of this many bytes takes from the window. */
export function windowCost(bytes: number): number {
  return bytes + frameCost;
}

interface Waiter {
  readonly cost: number;
  readonly go: () => void;
  readonly fail: (error: unknown) => void;
}

/** Credit for sending data: the peer grants it as it reads, so that nothing unread piles up at either end. */
export class SendWindow {
  #credit = windowBytes;
  readonly #waiters: Waiter[] = [];
  #error: unknown;

  /** Waits for room, in the order of the calls. Rejects where the signal is aborted, with its reason, or on `fail`. */
  take(cost: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#waiters.length === 0 && this.#credit >= cost) {
      this.#credit -= cost;
      return Promise.resolve();
    }
    return this.#wait(cost, signal);
  }

  #wait(cost: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const waiter = { cost, go: () => settle(resolve), fail: (error: unknown) => settle(() => reject(error)) };
      const abort = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        waiter.fail(signal?.reason);
        this.#admit();
      };
      const settle = (outcome: () => void) => {
        forget();
        outcome();
      };
      this.#waiters.push(waiter);
      const forget = onAbort(signal, abort);
    });
  }

  /** The peer has read `bytes`. Throws `Violation` if it never was sent as much. */
  grant(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit > windowBytes) throw new Violation("it granted more credit than it had been sent data");
    this.#admit();
  }

  /** Rejects all that wait and will wait. */
  fail(error: unknown): void {
    this.#error = error;
    for (const waiter of this.#waiters.splice(0)) waiter.fail(error);
  }

  #admit(): void {
    for (let next = this.#waiters[0]; next && next.cost <= this.#credit; next = this.#waiters[0]) {
      this.#waiters.shift();
      this.#credit -= next.cost;
      next.go();
    }
  }
}

/** The reading end of a window: hands credit back, and notices who sends without. */
export class Receipt {
  #outstanding = 0;
  #read = 0;
  #grant: ((bytes: number) => void) | undefined;

  constructor(grant: (bytes: number) => void) {
    this.#grant = grant;
  }

  /** Takes note of a data frame; what it returns is to be called when the frame has been read. Throws `Violation`. */
  of(bytes: number): () => void {
    const cost = windowCost(bytes);
    this.#outstanding += cost;
    if (this.#outstanding > windowBytes) throw new Violation("it sent more data than it had credit for");
    return () => this.#credit(cost);
  }

  /** Grants no more. */
  stop(): void {
    this.#grant = undefined;
  }

  #credit(cost: number): void {
    this.#read += cost;
    if (this.#read < creditStep) return;
    const read = this.#read;
    this.#read = 0;
    this.#outstanding -= read;
    this.#grant?.(read);
  }
}
