/**
 * What has been reached, by name. Whoever waits for something gets it once it is there; a report that nobody has waited
 * for is kept until somebody does, but never more than the last one of a name.
 */
export class Milestones<M extends { readonly phase: string }> {
  readonly #reached = new Map<string, M>();
  #waiting: { readonly phase: string; readonly resolve: (report: M) => void }[] = [];

  /** Takes a report. */
  reach(report: M): void {
    const { phase } = report;
    const heard = this.#waiting.filter((waiter) => waiter.phase === phase);
    if (heard.length === 0) this.#reached.set(phase, report);
    this.#waiting = this.#waiting.filter((waiter) => waiter.phase !== phase);
    for (const { resolve } of heard) resolve(report);
  }

  /** Drops a report that is out of date. */
  forget(phase: M["phase"]): void {
    this.#reached.delete(phase);
  }

  /** The report of this name: the one at hand, which is gone then, or the next. */
  next<P extends M["phase"]>(phase: P): Promise<Extract<M, { phase: P }>> {
    const report = this.#reached.get(phase);
    this.#reached.delete(phase);
    if (report) return Promise.resolve(report as Extract<M, { phase: P }>);
    return new Promise((resolve) => {
      this.#waiting.push({ phase, resolve: resolve as (report: M) => void });
    });
  }
}
