import type { RankDescription } from "../plan/rankDescription.ts";
import type { RankLinks } from "./links/rankLinks.ts";

/** The logits of a pass that one rank computes where the head is sharded: those of its rows of the vocabulary. */
export class OwnLogits {
  readonly #width: number;
  #offsets: readonly number[] = [];
  #room = new Float32Array(0);

  /** @param width - rows of the vocabulary that this rank has */
  constructor(width: number) {
    this.#width = width;
  }

  /** Where each row of logits of the pass belongs among its results, of which rank 0 has all. */
  get offsets(): readonly number[] {
    return this.#offsets;
  }

  /** (own rows of the vocabulary, rows of logits) */
  get values(): Float32Array {
    return this.rows(0, this.#offsets.length);
  }

  begin(offsets: readonly number[]): void {
    this.#offsets = offsets;
    const needed = this.#width * offsets.length;
    if (this.#room.length < needed) this.#room = new Float32Array(needed);
  }

  /** Some rows of logits. */
  rows(first: number, count: number): Float32Array {
    return this.#room.subarray(first * this.#width, (first + count) * this.#width);
  }
}

/** Brings the logits of a pass, of which each rank has those of its rows of the vocabulary, to rank 0 as they are. */
export class LogitCollector {
  readonly #rank: number;
  readonly #shares: RankDescription["shares"];

  constructor({ rank, shares }: RankDescription) {
    this.#rank = rank;
    this.#shares = shares;
  }

  /**
   * Called by all ranks after a pass that none of them stopped before the head. Throws `LINK_LOST`.
   *
   * @param results - of the pass, on rank 0: its logits are written to where they belong
   */
  collect({ offsets, values }: OwnLogits, links: RankLinks | undefined, results: Float32Array): void {
    if (offsets.length === 0) return;
    const take = (rank: number, part: Uint8Array, at: number) => this.#scatter(rank, part, at, results, offsets);
    if (this.#rank === 0) take(0, bytesOf(values), 0);
    const bytes = this.#shares.map(({ vocabulary }) => 4 * vocabulary.count * offsets.length);
    links?.gather({ root: 0, own: bytesOf(values), bytes, take });
  }

  /** Copies bytes of a rank's logits, (its rows, rows of logits), from one on, to where they belong among the results. */
  #scatter(rank: number, part: Uint8Array, at: number, results: Float32Array, offsets: readonly number[]): void {
    const { start, count } = this.#shares[rank]!.vocabulary;
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
