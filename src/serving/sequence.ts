import type { Coordinator } from "../cluster/coordinator.ts";
import { StelliumError } from "../errors.ts";

/** One sequence and the part of it that the KV cache holds, which later prompts may start from. */
export class Sequence {
  readonly #coordinator: Pick<Coordinator, "step" | "batch">;
  /** Tokens whose keys and values are in the cache, in order. */
  #cached: number[] = [];

  constructor(coordinator: Pick<Coordinator, "step" | "batch">) {
    this.#coordinator = coordinator;
  }

  /**
   * Brings the cache to hold exactly `tokens`, passing only those through the blocks that are not there yet, in
   * batches. An abort leaves what was complete.
   *
   * @returns logits of the last token, valid until the next step, and how many tokens the cache held already
   */
  async extendTo(tokens: ArrayLike<number>, signal?: AbortSignal): Promise<{ logits: Float32Array; reused: number }> {
    // The last token is always taken anew: its logits are wanted.
    const reused = Math.min(commonLength(this.#cached, tokens), tokens.length - 1);
    this.#cached.length = reused;
    const { batch } = this.#coordinator;
    let logits: Float32Array = new Float32Array(0);
    for (let position = reused; position < tokens.length; position += batch) {
      const chunk = Array.prototype.slice.call(tokens, position, position + batch) as number[];
      const outputs = position + batch >= tokens.length ? 1 : 0;
      logits = await this.#step(chunk, position, outputs, signal);
    }
    return { logits, reused };
  }

  /** Takes one more token. Returns its logits, valid until the next step. */
  async append(token: number, signal?: AbortSignal): Promise<Float32Array> {
    return await this.#step([token], this.#cached.length, 1, signal);
  }

  /** A step that was stopped leaves the cache as it was; one that failed may have lost a device, and its part of it. */
  async #step(tokens: number[], position: number, outputs: number, signal?: AbortSignal): Promise<Float32Array> {
    try {
      const logits = await this.#coordinator.step({ tokens, position, outputs }, signal);
      this.#cached.push(...tokens);
      return logits;
    } catch (error) {
      if (!(error instanceof StelliumError && error.code === "ABORTED")) this.#cached = [];
      throw error;
    }
  }
}

function commonLength(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
