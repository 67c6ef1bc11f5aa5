import type { GgufTensor } from "../weights/gguf/model.ts";
import { type Range, sliceBytes, type TensorStack } from "../weights/slice.ts";
import { hasUnits, partOf, type RankShare, unitsOf, type Weight } from "./split.ts";

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
  /** None on a rank without a share of them. Whole ones if they are dealt. */
  readonly matrices: readonly ExpertMatrix[];
  /** The rank's units of each expert, if it has others of one than of the next; see `DealtExperts`. */
  readonly dealt?: readonly Range[] | undefined;
}

/**
 * The units that each rank has of each expert, by rank and by expert: ranks have other parts of one expert than of the
 * next, and of some none.
 */
export type DealtExperts = readonly (readonly Range[])[];

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
export function weightsOfExpert({ matrices, dealt }: ExpertWeights, expert: number): Weight[] {
  return matrices.map(({ stride, apart, ...matrix }) => {
    const whole = {
      ...matrix,
      name: nameOfExpert(matrix.name, expert),
      role: nameOfExpert(matrix.role, expert),
      tensor: apart?.[expert] ?? matrix.tensor,
      rows: { ...matrix.rows, start: matrix.rows.start + expert * stride },
    };
    return dealt === undefined ? whole : unitsOf(whole, dealt[expert]!);
  });
}

/** The experts of all blocks: a stack for each matrix of each block, or each expert for itself if they are dealt. */
export function storedExperts(blocks: readonly (WithWeights & { readonly layer: number })[]) {
  const dealt = blocks.some(({ experts }) => experts?.dealt !== undefined);
  if (dealt) return { stacks: [], units: expertUnits(blocks).map(({ weights }) => weights) };
  return { stacks: blocks.map(stacksOf).filter(({ length }) => length > 0), units: [] };
}

/** The matrices of a block's experts. */
function stacksOf(block: WithWeights): TensorStack[] {
  const experts = expertsOf(block);
  const matrices = block.experts?.matrices ?? [];
  return matrices.map(({ name }, i) => ({ name, experts: experts.map((weights) => weights[i]!) }));
}

/** Numbers of the experts of a block that a rank has a share of: all or none, unless they are dealt. */
export function heldExperts({ experts }: Pick<WithWeights, "experts">): number[] {
  if (experts === undefined || experts.matrices.length === 0) return [];
  const all = Array.from({ length: experts.count }, (_, expert) => expert);
  return all.filter((expert) => experts.dealt?.[expert]?.count !== 0);
}

/** Number of experts of a block that a rank has a share of. */
export function expertCount(block: Pick<WithWeights, "experts">): number {
  return heldExperts(block).length;
}

/** The weights of each expert of a block that the rank has a share of. */
export function expertsOf(block: Pick<WithWeights, "experts">): Weight[][] {
  return heldExperts(block).map((expert) => weightsOfExpert(block.experts!, expert));
}

/** The experts of all blocks, in order: the units that are read and kept one by one. */
export function expertUnits(blocks: readonly (WithWeights & { readonly layer: number })[]) {
  return blocks.flatMap((block) => expertsOf(block).map((weights) => ({ layer: block.layer, weights })));
}

/**
 * Bytes of a block's weights in the plain layout, those of all its experts included.
 *
 * @param counts - which of them; all if absent
 */
export function blockWeightBytes(block: WithWeights, counts: (weight: Weight) => boolean = () => true): number {
  const bytes = (weights: readonly Weight[]) =>
    weights.reduce((sum, weight) => sum + (counts(weight) ? sliceBytes(weight) : 0), 0);
  return [block.weights, ...ofExperts(block, (weights) => weights)].reduce((sum, weights) => sum + bytes(weights), 0);
}

/** A value for each expert of a block that the rank has a share of. Asked once if all experts are alike. */
export function ofExperts<T>(block: Pick<WithWeights, "experts">, value: (weights: readonly Weight[]) => T): T[] {
  const { experts } = block;
  if (experts?.dealt !== undefined) return expertsOf(block).map(value);
  const count = expertCount(block);
  return count === 0 ? [] : Array<T>(count).fill(value(weightsOfExpert(experts!, 0)));
}

/**
 * A rank's part of experts; see `partOf`.
 *
 * @param dealt - if given, what each rank has of each
 */
export function partOfExperts(
  experts: ExpertWeights,
  shares: readonly RankShare[],
  rank: number,
  dealt?: DealtExperts,
): ExpertWeights {
  const matrices = experts.matrices.filter(({ split }) => hasUnits(split, shares[rank]!));
  if (dealt !== undefined) return { ...experts, matrices, dealt: dealt[rank]! };
  return { ...experts, matrices: matrices.map((matrix) => ({ ...matrix, ...partOf(matrix, shares, rank)! })) };
}
