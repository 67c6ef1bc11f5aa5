/**
 * The last report of each phase. It stays until it is forgotten: a wait that was given up does not take it away from the
 * next one.
 */
export class Milestones<M extends { readonly phase: string }> {
  readonly #reached = new Map<string, M>();
  #waiting: { readonly phase: string; readonly resolve: (report: M) => void }[] = [];

  /** Takes a report. */
  reach(report: M): void {
    const { phase } = report;
    this.#reached.set(phase, report);
    const heard = this.#waiting.filter((waiter) => waiter.phase === phase);
    this.#waiting = this.#waiting.filter((waiter) => waiter.phase !== phase);
    for (const { resolve } of heard) resolve(report);
  }

  /** Drops a report that is out of date. */
  forget(phase: M["phase"]): void {
    this.#reached.delete(phase);
  }

  /** The report of this phase: the last one, or the next if there is none. */
  of<P extends M["phase"]>(phase: P): Promise<Extract<M, { phase: P }>> {
    const report = this.#reached.get(phase);
    if (report) return Promise.resolve(report as Extract<M, { phase: P }>);
    return new Promise((resolve) => {
      this.#waiting.push({ phase, resolve: resolve as (report: M) => void });
    });
  }
}
