import type { GgufTensor } from "../weights/gguf/model.ts";
import { sliceBytes, type TensorStack } from "../weights/slice.ts";
import { hasUnits, partOf, type RankShare, type Unit, type Weight } from "./split.ts";

/** A matrix that each expert of a block has: its rows and its tensor are those of the first one. */
export interface ExpertMatrix extends Weight {
  /** Rows from the start of one expert to that of the next one, if all are in one tensor. */
  readonly stride: number;
  /** The tensors of all experts, if each has one of its own. */
  readonly apart?: readonly GgufTensor[];
}

/** Weights of which a token needs only those of the experts that are chosen for it. Plain data: it crosses threads. */
export interface ExpertWeights {
  /** Experts that tokens choose from. */
  readonly count: number;
  /** None on a rank without a share of them. */
  readonly matrices: readonly ExpertMatrix[];
}

/** What blocks have of weights, as far as it concerns those who read them. */
interface WithWeights {
  readonly weights: readonly Weight[];
  readonly experts?: ExpertWeights | undefined;
}

/** Name of a matrix of all experts for that of one of them: what GGUF calls it if each has a tensor of its own. */
function nameOfExpert(name: string, expert: number): string {
  return name.replace(/_exps\./, `.${expert}.`);
}

/** The weights of one expert, in the order of its block's matrices. */
export function weightsOfExpert({ matrices }: ExpertWeights, expert: number): Weight[] {
  return matrices.map(({ stride, apart, ...matrix }) => ({
    ...matrix,
    name: nameOfExpert(matrix.name, expert),
    role: nameOfExpert(matrix.role, expert),
    tensor: apart?.[expert] ?? matrix.tensor,
    rows: { ...matrix.rows, start: matrix.rows.start + expert * stride },
  }));
}

/** The matrices of a block's experts. */
export function stacksOf(block: WithWeights): TensorStack[] {
  const experts = expertsOf(block);
  const matrices = block.experts?.matrices ?? [];
  return matrices.map(({ name }, i) => ({ name, experts: experts.map((weights) => weights[i]!) }));
}

/** How many experts of a block a rank has a share of: all or none. */
export function expertCount({ experts }: Pick<WithWeights, "experts">): number {
  return experts === undefined || experts.matrices.length === 0 ? 0 : experts.count;
}

/** The weights of each expert of a block; none if it has no experts, or the rank no share of them. */
export function expertsOf({ experts }: Pick<WithWeights, "experts">): Weight[][] {
  return Array.from({ length: expertCount({ experts }) }, (_, expert) => weightsOfExpert(experts!, expert));
}

/** The experts of all blocks, in order: the units that are read and kept one by one. */
export function expertUnits(blocks: readonly (WithWeights & { readonly layer: number })[]) {
  return blocks.flatMap((block) => expertsOf(block).map((weights) => ({ layer: block.layer, weights })));
}

/**
 * Bytes of a block's weights in the plain layout, those of all its experts included.
 *
 * @param unit - counts only those that are divided by it, or copied with it; all if absent
 */
export function blockWeightBytes(block: WithWeights, unit?: Unit): number {
  const bytes = (weights: readonly Weight[]) =>
    weights.reduce(
      (sum, weight) => sum + (unit === undefined || weight.split.unit === unit ? sliceBytes(weight) : 0),
      0,
    );
  return bytes(block.weights) + expertCount(block) * bytes(block.experts?.matrices ?? []);
}

/** Bytes of one expert of a block in the plain layout. */
export function expertBytes({ matrices }: ExpertWeights): number {
  return matrices.reduce((sum, matrix) => sum + sliceBytes(matrix), 0);
}

/** A rank's part of experts; see `partOf`. */
export function partOfExperts(experts: ExpertWeights, shares: readonly RankShare[], rank: number): ExpertWeights {
  const matrices = experts.matrices.flatMap((matrix) => {
    if (!hasUnits(matrix.split, shares[rank]!)) return [];
    return { ...matrix, ...partOf(matrix, shares, rank)! };
  });
  return { ...experts, matrices };
}
