import type { RankDescription } from "../plan/rankDescription.ts";
import type { Forward } from "./forward.ts";
import type { RankLinks } from "./rankLinks.ts";

/**
 * Brings the logits of a step to rank 0. Where the head is sharded, each rank has those of its rows of the vocabulary
 * and sends them as they are; otherwise rank 0 has them all.
 */
export class LogitCollector {
  readonly #rank: number;
  readonly #vocabulary: RankDescription["vocabulary"];
  readonly #vocabularySize: number;
  /** (own rows, rows of logits) */
  #own = new Float32Array(0);

  constructor({ rank, vocabulary, hyperparameters }: RankDescription) {
    this.#rank = rank;
    this.#vocabulary = vocabulary;
    this.#vocabularySize = hyperparameters.vocabularySize;
  }

  /**
   * Called by all ranks behind a step that none of them stopped before the head. Throws `LINK_LOST`.
   *
   * @param results - of the step, on rank 0: its logits are written to where they belong
   */
  collect(forward: Forward, links: RankLinks | undefined, results: Float32Array): void {
    if (this.#vocabulary[0]!.count === this.#vocabularySize) return;
    const offsets = forward.logitOffsets();
    if (offsets.length === 0) return;
    const own = this.#room(this.#vocabulary[this.#rank]!.count * offsets.length);
    forward.readOwnLogits(own);
    const take = (rank: number, part: Uint8Array, at: number) => this.#scatter(rank, part, at, results, offsets);
    if (this.#rank === 0) take(0, bytesOf(own), 0);
    const bytes = this.#vocabulary.map(({ count }) => 4 * count * offsets.length);
    links?.gather({ root: 0, own: bytesOf(own), bytes, take });
  }

  #room(values: number): Float32Array {
    if (this.#own.length < values) this.#own = new Float32Array(values);
    return this.#own.subarray(0, values);
  }

  /** Copies bytes of a rank's logits, (its rows, rows of logits), from one on, to where they belong among the results. */
  #scatter(rank: number, part: Uint8Array, at: number, results: Float32Array, offsets: readonly number[]): void {
    const { start, count } = this.#vocabulary[rank]!;
    const into = bytesOf(results);
    const width = 4 * count;
    for (let done = 0; done < part.length; ) {
      const [row, within] = [Math.floor((at + done) / width), (at + done) % width];
      const length = Math.min(width - within, part.length - done);
      into.set(part.subarray(done, done + length), 4 * (offsets[row]! + start) + within);
      done += length;
    }
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
