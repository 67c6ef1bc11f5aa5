import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { orAborted } from "./orAborted.ts";

/**
 * Keeps steps, which need all ranks, and the filling of lost ranks apart. A rank may be lost in a step, which fails then,
 * or between two, when nobody asks for anything: it is filled again at once, so that the next request finds it there.
 */
export class Mending {
  readonly #mend: () => Promise<void>;
  #current: Promise<void> | undefined;
  #underWay = false;
  #steps = 0;
  /** Of a rank that was lost between two steps, while nobody knows yet that what the ranks' KV caches held is gone. */
  #untold: StelliumError | undefined;

  /** @param mend - has all ranks filled and linked again */
  constructor(mend: () => Promise<void>) {
    this.#mend = mend;
  }

  /** Whether a lost rank is being filled again. */
  get underWay(): boolean {
    return this.#underWay;
  }

  /**
   * Resolves when no rank is being filled. Returns false where one was since the last step or call: KV caches are empty
   * then, and there are no copies.
   */
  async ready(signal?: AbortSignal): Promise<boolean> {
    // Where it failed, the next step says so.
    const settled = this.#current?.catch(() => {});
    await orAborted(settled, signal);
    return this.#told() === undefined;
  }

  /**
   * Runs a step, when all ranks are there. Where one is lost meanwhile, or was before without `ready` having said so, it
   * fails with `WORKER_LOST`, and the next step starts from empty KV caches.
   *
   * @param lossOf - what the step failed by, for people
   */
  async guard<T>(
    step: () => Promise<T>,
    lossOf: (error: StelliumError) => Promise<StelliumError>,
    signal?: AbortSignal,
  ): Promise<T> {
    // At once, not when the rank is filled: an answer may have been between two steps of its own.
    const untold = this.#told();
    if (untold !== undefined) throw untold;
    await orAborted(this.#current, signal);
    this.#steps++;
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof StelliumError && error.code === "LINK_LOST")) throw error;
      const loss = await lossOf(error);
      this.#start();
      throw loss;
    } finally {
      this.#steps--;
    }
  }

  /** A rank is lost. A step that is under way fails by it, and whoever fills ranks notices. */
  lost(loss: StelliumError): void {
    if (this.#steps > 0 || this.#underWay) return;
    log("warn", loss.message);
    this.#untold = loss;
    this.#start();
  }

  #told(): StelliumError | undefined {
    const untold = this.#untold;
    this.#untold = undefined;
    return untold;
  }

  #start(): void {
    if (this.#underWay) return;
    this.#underWay = true;
    this.#current = this.#mend().finally(() => {
      this.#underWay = false;
    });
    this.#current.catch(() => {});
  }
}
