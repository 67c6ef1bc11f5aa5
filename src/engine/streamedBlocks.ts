import type { Recorder } from "../trace/recorder.ts";
import { spanKind } from "../trace/spans.ts";
import type { BlockWindow } from "../weights/window/window.ts";
import type { SegmentPlan } from "./segments.ts";

/**
 * The blocks of a pass that are not always in memory: each is brought there for the first group of tokens that passes
 * through it, and stays until the last one has.
 */
export class StreamedBlocks {
  readonly #window: BlockWindow;
  readonly #rank: number;
  readonly #recorder: Recorder;
  readonly #segments: readonly SegmentPlan[];
  /** The block that is to stay in the window. */
  #held: number | undefined;
  #failure: unknown;

  constructor(rank: number, segments: readonly SegmentPlan[], window: BlockWindow, recorder: Recorder) {
    this.#rank = rank;
    this.#segments = segments;
    this.#window = window;
    this.#recorder = recorder;
  }

  /** Why a block of the current pass could not be read, on rank 0; undefined if all could. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Begins a pass. */
  begin(): void {
    this.#held = undefined;
    this.#failure = undefined;
  }

  /** Waits until a segment's block is in memory. Returns false if it will not be. Throws what `acquire` does. */
  hold(segment: number): boolean {
    const block = this.#segments[segment]!.streamed;
    if (block === undefined || block === this.#held) return true;
    const started = this.#recorder.now();
    const acquired = this.attempt(() => this.#window.acquire(block));
    this.#recorder.end(spanKind.disk, started, this.#segments[segment]!.subject);
    if (acquired) this.#held = block;
    return acquired;
  }

  /** All groups have computed a segment: its block may leave memory, unless the next segment needs it, too. */
  letGo(segment: number): void {
    if (this.#held === undefined || this.#segments[segment + 1]?.streamed === this.#held) return;
    this.#window.release();
    this.#held = undefined;
  }

  /**
   * Does what reads weights. If rank 0 cannot, all ranks have to stop before it says so: they take further passes
   * afterwards. Returns false then, and if it was stopped.
   */
  attempt(action: () => boolean): boolean {
    try {
      return action();
    } catch (error) {
      if (this.#rank > 0) throw error;
      this.#failure = error;
      return false;
    }
  }
}
