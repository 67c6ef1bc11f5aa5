/** A signal that follows another: at once, and so many milliseconds behind it once it lingers. */
export class Lingering {
  readonly signal: AbortSignal;
  #delayMs = 0;
  readonly #lingerMs: number;

  constructor(signal: AbortSignal | undefined, lingerMs: number) {
    const controller = new AbortController();
    this.signal = controller.signal;
    this.#lingerMs = lingerMs;
    const abort = () => {
      if (this.#delayMs === 0) controller.abort(signal?.reason);
      else setTimeout(() => controller.abort(signal?.reason), this.#delayMs).unref();
    };
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  }

  /** From now on it is that much later. */
  linger(): void {
    this.#delayMs = this.#lingerMs;
  }
}
