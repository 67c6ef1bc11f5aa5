import type { CellState } from "../cells.ts";
import type { RankShare } from "../split.ts";
import { attention } from "./attention.ts";
import type { Block, BlockCost, BlockDefinition, BlockKind, BlockStep } from "./block.ts";
import { feedForward } from "./feedForward.ts";
import { head } from "./head.ts";

type Definitions = { readonly [K in BlockKind]: BlockDefinition<Extract<Block, { kind: K }>> };

const definitions: Definitions = { attention, ffn: feedForward, head };

function definitionOf(block: Block): BlockDefinition<Block> {
  return definitions[block.kind] as BlockDefinition<Block>;
}

/** Steps of a block, in order. */
export function stepsOf(block: Block): readonly BlockStep<Block>[] {
  return definitionOf(block).steps(block);
}

/** The keys and values that a block keeps for later passes; undefined if it keeps nothing. */
export function stateOf(block: Block): CellState | undefined {
  return definitionOf(block).state(block);
}

/** Cost of a block on a rank with a share. */
export function costOf(block: Block, share: RankShare, slots = 1): BlockCost {
  return definitionOf(block).cost(block, share, slots);
}

/** Number of sums over all ranks during a block. */
export function sumsOf(block: Block): number {
  return stepsOf(block).filter(({ does }) => does === "sum").length;
}

/** Windows of tokens that attention blocks have (0: none), each once. */
export function windowsOf(blocks: readonly Block[]): number[] {
  return [...new Set(blocks.flatMap((block) => (block.kind === "attention" ? [block.window] : [])))];
}

/** Name of a block for people, such as `attention 3`; there is one head. */
export function blockName({ kind, layer }: Pick<Block, "kind" | "layer">): string {
  return kind === "head" ? kind : `${kind} ${layer}`;
}
