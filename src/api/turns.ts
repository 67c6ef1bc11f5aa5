import { StelliumError } from "../errors.ts";

/** Lets one at a time through, in the order in which they came, and keeps no more than `most` waiting. */
export class Turns {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #taken = false;

  constructor(most: number) {
    this.#most = most;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Waits for a turn, which ends as the result is disposed of. Throws `QUEUE_FULL`, `ABORTED`. */
  async take(signal: AbortSignal | undefined): Promise<Disposable> {
    if (signal?.aborted) throw aborted(signal);
    if (this.#taken) await this.#wait(signal);
    this.#taken = true;
    return { [Symbol.dispose]: () => this.#pass() };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.length >= this.#most) throw new StelliumError("QUEUE_FULL", { queued: this.#waiting.length });
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(aborted(signal));
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(enter);
    });
  }

  /** Stays taken where somebody waits: nobody gets in between. */
  #pass(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken = false;
    else next();
  }
}

function aborted(signal: AbortSignal | undefined): StelliumError {
  return new StelliumError("ABORTED", { reason: String(signal?.reason ?? "it was asked to") });
}
