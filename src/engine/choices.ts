import { StelliumError } from "../errors.ts";
import type { ChooseStep, ChosenValues, RankBlock } from "../model/blocks/block.ts";
import type { RoutingRecorder } from "../trace/routing.ts";
import type { Reducer } from "./reducer.ts";

/** Values of a check, one for each bit of a digest: as many as a block of q8_0 holds, so that no other value is in theirs. */
const checkValues = 32;

/** Values of a sum of `values` values with a check: it begins at a block of every wire type. */
export function checkedValues(values: number): number {
  return Math.ceil(values / checkValues) * checkValues + checkValues;
}

/** Most values that a check adds to a sum. */
export const mostCheckValues = 2 * checkValues - 1;

/** Inputs of a choice, and the memory for its result. */
export interface ChoiceParts {
  readonly block: RankBlock;
  readonly step: ChooseStep<RankBlock>;
  /** True if it is made from a sum: all ranks choose the same. */
  readonly fromSum: boolean;
  readonly rank: number;
  /** (`leaves` of the step before, columns) */
  readonly partial: Float32Array;
  readonly chosen: ChosenValues;
}

/**
 * Chooses what a block's next step works on. Ranks that choose for themselves rarely differ, but sometimes do: their CPUs
 * round differently, and then a sum would mix parts of different things. So they compare what they chose (see
 * `ChoiceCheck`). If it differs, they compute the pass again, and all take the choices of one rank.
 */
export class BlockChoice {
  readonly #parts: ChoiceParts;
  /** Ids and weights, as bytes. */
  readonly #bytes: readonly Uint8Array[];

  constructor(parts: ChoiceParts) {
    this.#parts = parts;
    this.#bytes = [parts.chosen.ids, parts.chosen.weights].map(bytesOf);
  }

  /** True if ranks may choose different things. */
  get mayDiffer(): boolean {
    const { block, fromSum } = this.#parts;
    return !fromSum && block.sharers.length > 1;
  }

  /** The check that follows the first `values` values of the next sum. */
  checkIn(sum: Float32Array, values: number): ChoiceCheck {
    const { block, step, chosen } = this.#parts;
    const ids = block.empty ? undefined : { values: chosen.ids, perToken: step.ids };
    return new ChoiceCheck(sum.subarray(values), block.sharers.length, ids);
  }

  /** Chooses, if the rank has a share of the block. */
  choose(): void {
    const { block, step, partial, chosen } = this.#parts;
    if (!block.empty) step.choose(block, partial, chosen);
  }

  /** Records this rank's choice, if the block is recorded and the rank has a share of it. */
  record(routing: RoutingRecorder): void {
    const { block, chosen } = this.#parts;
    if (block.recorded && !block.empty) routing.choose(block.layer, chosen.ids);
  }

  /**
   * Replaces this rank's choice by that of the first rank with a share of the block, if ranks may differ. All ranks call
   * it, after `choose`. Throws `LINK_LOST`, and `PROTOCOL_VIOLATION` if that choice is impossible.
   *
   * @param stopped - true if this rank was stopped and has not chosen
   */
  agree(reducer: Reducer, stopped: boolean): void {
    const { block, step, rank, chosen } = this.#parts;
    if (!this.mayDiffer) return;
    const decider = block.sharers[0]!;
    // The others stop at the next sum, and need something possible until then.
    if (stopped && rank === decider) for (const i of chosen.ids.keys()) chosen.ids[i] = i % step.ids;
    for (const bytes of this.#bytes) reducer.broadcast(decider, bytes);
    if (!isChoice(chosen.ids, step)) throw impossible(decider, step);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** True if each token has different ids, all in bounds. */
function isChoice(ids: Int32Array, { ids: perToken, among }: ChooseStep<RankBlock>): boolean {
  for (let i = 0; i < ids.length; i++) {
    if (ids[i]! < 0 || ids[i]! >= among) return false;
    for (let j = i - (i % perToken); j < i; j++) if (ids[j] === ids[i]) return false;
  }
  return true;
}

function impossible(rank: number, { ids, among }: ChooseStep<RankBlock>): StelliumError {
  const reason = `it did not choose ${ids} of ${among} for each token`;
  return new StelliumError("PROTOCOL_VIOLATION", { peer: `rank ${rank}`, reason });
}

/** The ids of all tokens of a lane: `perToken` of each, in any order. */
export interface CheckedIds {
  readonly values: Int32Array;
  readonly perToken: number;
}

/**
 * Compares the choices of all ranks by means of a sum: each rank adds 1 or -1 for every bit of a digest of what it chose.
 * If all chose the same, each of these sums is plus or minus the number of ranks; one rank that differs in a bit takes 2
 * off, which no wire type rounds away. Sums are the same bits on all ranks, and so is the conclusion.
 */
export class ChoiceCheck {
  /** All that follows the sum's own values, and the last `checkValues` of that. */
  readonly #added: Float32Array;
  readonly #signs: Float32Array;
  readonly #ranks: number;
  readonly #ids: CheckedIds | undefined;

  /**
   * @param added - what follows the sum's own values: see `checkedValues`
   * @param ranks - how many choose
   * @param ids - undefined if this rank is none of them
   */
  constructor(added: Float32Array, ranks: number, ids: CheckedIds | undefined) {
    this.#added = added;
    this.#signs = added.subarray(-checkValues);
    this.#ranks = ranks;
    this.#ids = ids;
  }

  /** Writes what this rank adds. */
  write(): void {
    this.#added.fill(0);
    if (this.#ids === undefined) return;
    const digest = digestOf(this.#ids);
    for (let bit = 0; bit < checkValues; bit++) this.#signs[bit] = (digest >>> bit) & 1 ? 1 : -1;
  }

  /** True if all ranks chose the same; valid after the sum. */
  get agreed(): boolean {
    for (let bit = 0; bit < checkValues; bit++) if (Math.abs(this.#signs[bit]!) < this.#ranks - 1) return false;
    return true;
  }
}

function digestOf({ values, perToken }: CheckedIds): number {
  let digest = 0;
  for (let i = 0; i < values.length; i += perToken) {
    let token = 0;
    for (let j = i; j < i + perToken; j++) token += mixed(values[j]!);
    digest = mixed(digest ^ token);
  }
  return digest;
}

/** MurmurHash3's last step: each bit of the result depends on all of the number's. */
function mixed(number: number): number {
  let bits = (number + 0x9e3779b9) | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
