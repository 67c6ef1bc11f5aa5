import type { RankBlock, RankDescription } from "../plan/rankDescription.ts";
import type { Recorder } from "../trace/recorder.ts";
import { blockSubject, spanKind } from "../trace/spans.ts";
import type { Weights } from "../weights/weights.ts";
import type { BlockWindow } from "../weights/window/window.ts";

/**
 * The blocks of a step that are not always in memory: each is brought there for the first group of tokens that passes
 * through it, and stays until the last one has.
 */
export class StreamedBlocks {
  readonly #window: BlockWindow;
  readonly #rank: number;
  readonly #recorder: Recorder;
  /** By segment: the block that has to be brought into memory for it, if any. */
  readonly #streamed: readonly (number | undefined)[];
  readonly #subjects: readonly number[];
  /** The block that is to stay in the window. */
  #held: number | undefined;
  #failure: unknown;

  constructor(
    { blocks, rank }: RankDescription,
    segments: readonly (readonly RankBlock[])[],
    { window }: Weights,
    recorder: Recorder,
  ) {
    const indices = segments.map(([block]) => blocks.indexOf(block!));
    this.#window = window;
    this.#rank = rank;
    this.#recorder = recorder;
    this.#streamed = indices.map((index) => (window.streams(index) ? index : undefined));
    this.#subjects = segments.map(blockSubject);
  }

  /** Why a block of the step at hand could not be read, on rank 0; undefined where all could. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Begins a step. */
  begin(): void {
    this.#held = undefined;
    this.#failure = undefined;
  }

  /** Has a segment's block in memory. Returns false where there is none to wait for. Throws what `acquire` does. */
  hold(segment: number): boolean {
    const block = this.#streamed[segment];
    if (block === undefined || block === this.#held) return true;
    const started = this.#recorder.now();
    const acquired = this.#acquire(block);
    this.#recorder.end(spanKind.disk, started, this.#subjects[segment]);
    if (acquired) this.#held = block;
    return acquired;
  }

  /** All groups have computed the block that is held, if any. */
  letGo(): void {
    if (this.#held !== undefined) this.#window.release();
    this.#held = undefined;
  }

  /** Where rank 0 cannot read a block, all ranks have to stop before it says so: they are to take further steps. */
  #acquire(block: number): boolean {
    try {
      return this.#window.acquire(block);
    } catch (error) {
      if (this.#rank > 0) throw error;
      this.#failure = error;
      return false;
    }
  }
}

/** Blocks that are computed by one graph: those with nothing between them, neither a sum nor the reading of weights. */
export function segmentsOf(blocks: readonly RankBlock[], separate: boolean, { window }: Weights): RankBlock[][] {
  const segments: RankBlock[][] = [];
  for (const [i, block] of blocks.entries()) {
    const apart = separate || i === 0 || [i - 1, i].some((index) => window.streams(index));
    if (apart) segments.push([block]);
    else segments.at(-1)!.push(block);
  }
  return segments;
}
