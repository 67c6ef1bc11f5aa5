import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import { type ColumnSpan, seenCells } from "../batch.ts";
import type { Hyperparameters, RopeParameters } from "../hyperparameters.ts";
import { factorsFor } from "../ropeFactors.ts";
import type { RankShare, Weight } from "../split.ts";
import type { LayerFinder, TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  blockInput,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/** Self-attention with grouped query heads, added to its input. */
export interface AttentionBlock extends BlockFacts {
  readonly kind: "attention";
  /** The model's; a rank has `headCount / headCountKv` query heads for each of its KV heads. */
  readonly headCount: number;
  readonly headCountKv: number;
  readonly keyLength: number;
  readonly valueLength: number;
  /** Factor on Q.K before the softmax, and what scores are capped at softly after that; 0: not. */
  readonly scale: number;
  readonly softcap: number;
  /** Whether the factor is on Q. */
  readonly scalesQueries: boolean;
  /** Null if it has no RoPE. */
  readonly rope: RopeParameters | null;
  /** Tokens that a token sees, itself included; 0: all before it. */
  readonly window: number;
  /** Whether tokens have no effect on each other after it: those without outputs ask for nothing. */
  readonly last: boolean;
  /** Whether the layer's feed-forward takes the same input, so that one sum serves both. */
  readonly parallel: boolean;
}

/** Finds the weights of a layer's attention. Throws `MODEL_UNSUPPORTED`. */
export function describeAttention(
  finder: TensorFinder,
  architecture: Architecture,
  h: Hyperparameters,
  layer: number,
): AttentionBlock {
  const { embeddingLength, headCount, headCountKv, keyLength, valueLength } = h;
  const from = finder.layer(layer, architecture);
  const norms = from.norms("attn_norm", "post_attention_norm", embeddingLength, "kvHeads");
  const columns = { axis: "columns", unit: "kvHeads", each: (headCount / headCountKv) * valueLength } as const;
  const weights = [
    ...norms.weights,
    ...queriesKeysValues(from, h),
    ...from.projection("attn_output", headCount * valueLength, embeddingLength, columns),
    ...(architecture.qkNorm ? ["attn_q_norm.weight", "attn_k_norm.weight"] : []).map((role) =>
      from.vector(role, keyLength, { axis: "replicated", unit: "kvHeads" }),
    ),
  ];
  const { before, after } = norms;
  const heads = { headCount, headCountKv, keyLength, valueLength };
  const { norm, residualScale, attentionScale: scale, attentionSoftcap: softcap } = h;
  const { parallel = false, scalesQueries = false } = architecture;
  const facts = { embeddingLength, norm, before, after, residualScale, scale, softcap, scalesQueries, parallel };
  const last = layer === h.blockCount - 1;
  return { kind: "attention", layer, weights, ...heads, ...facts, ...layerFacts(architecture, h, layer), last };
}

/** A layer's window and RoPE. */
function layerFacts({ ropeLayers }: Architecture, { sliding, rope, turns }: Hyperparameters, layer: number) {
  const slides = sliding?.layers[layer] ?? false;
  const own = slides ? sliding!.rope : rope;
  const turnsHere =
    ropeLayers === undefined ||
    (ropeLayers === "sliding" ? slides || sliding === undefined : (layer + 1) % ropeLayers.allButEvery !== 0);
  return { window: slides ? sliding!.tokens : 0, rope: turns && turnsHere ? own : null };
}

/** Q, K and V: three matrices, or the rows of one (`attn_qkv`). */
function queriesKeysValues(from: LayerFinder, h: Hyperparameters): Weight[] {
  const { embeddingLength, headCount, headCountKv, keyLength, valueLength } = h;
  const group = headCount / headCountKv;
  const stems = ["attn_q", "attn_k", "attn_v"] as const;
  const rows = [headCount * keyLength, headCountKv * keyLength, headCountKv * valueLength];
  const splits = [group * keyLength, keyLength, valueLength].map(
    (each) => ({ axis: "rows", unit: "kvHeads", each }) as const,
  );
  if (from.has("attn_qkv.weight")) return from.fused("attn_qkv", stems, embeddingLength, rows, splits);
  return stems.flatMap((stem, i) => from.projection(stem, embeddingLength, rows[i]!, splits[i]!));
}

/** See `AttentionBlock`. */
export const attention: BlockDefinition<AttentionBlock> = {
  steps: ({ parallel }) => [{ does: "compute", append: appendAttention }, ...(parallel ? [] : [sum, addSum])],
  state: ({ keyLength, valueLength }) => ({ unit: "kvHeads", keyLength, valueLength }),
  cost(block, share, slots) {
    // If sequences share a pass, what attention gives to each is put together in one more copy.
    const copies = slots === 1 ? 2 : 4;
    return { workingValues: copies * headsOf(block, share).heads * block.keyLength, computes: "tokens" };
  },
};

const sum = { does: "sum" } as const;

type Attention = RankBlock<AttentionBlock>;

/** A rank's heads. */
function headsOf({ headCount, headCountKv }: AttentionBlock, { kvHeads }: RankShare) {
  return { kvHeads: kvHeads.count, heads: kvHeads.count * (headCount / headCountKv) };
}

function appendAttention(context: BlockContext, block: Attention, { hidden }: Flow): Flow | null {
  const { builder, shape } = context;
  const asking = block.last ? shape.outputs : shape.tokens;
  const partial = block.empty ? null : attentionPartial(context, block, hidden, asking);
  if (asking === 0) return null;
  const residual = builder.lastColumns(hidden, block.embeddingLength, shape.tokens, asking);
  return { hidden: residual, partial, columns: asking };
}

/** The attention output of the last `asking` tokens; keys and values of all are stored for later passes. */
function attentionPartial(context: BlockContext, block: Attention, hidden: Tensor, asking: number): Tensor | null {
  const { builder, shape } = context;
  const all = blockInput(context, block, hidden);
  storeKeysAndValues(context, block, all);
  if (asking === 0) return null;
  const input = builder.lastColumns(all, block.embeddingLength, shape.tokens, asking);
  const q = scaledQueries(context, block, turnedHeads(context, block, input, "q", asking), asking);
  return project(context, block, "attn_output", attend(context, block, q, asking));
}

/** Q or K of the last `tokens` tokens by heads, (head length, heads, tokens), normed if the model does so, turned by RoPE. */
function turnedHeads(context: BlockContext, block: Attention, input: Tensor, part: "q" | "k", tokens: number): Tensor {
  const { builder, shape, inputs, share } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const projected = project(context, block, `attn_${part}`, input);
  const byHead = builder.reshape(projected, block.keyLength, part === "q" ? heads : kvHeads, tokens);
  const norm = context.weight(block, `attn_${part}_norm.weight`);
  const normed = norm === null ? byHead : builder.norm(byHead, norm, block.norm);
  return turned(context, block, normed, builder.last(inputs.positions, shape.tokens, tokens));
}

function turned(context: BlockContext, { rope }: Attention, heads: Tensor, positions: Tensor): Tensor {
  if (rope === null) return heads;
  const pair = context.shared(`rope_factors_${factorsFor(rope, context.slotCells)}.weight`);
  return context.builder.rope(heads, positions, context.shared("rope_freqs.weight") ?? pair, rope);
}

function storeKeysAndValues(context: BlockContext, block: Attention, input: Tensor): void {
  const { builder, shape, inputs, share } = context;
  const { keys, values } = context.cells(block);
  const k = turnedHeads(context, block, input, "k", shape.tokens);
  const v = project(context, block, "attn_v", input);
  const rows = builder.reshape(k, headsOf(block, share).kvHeads * block.keyLength, shape.tokens);
  builder.expand(builder.setRows(keys, rows, inputs.cells));
  builder.expand(builder.setRows(values, v, inputs.cells));
}

/** Queries of the last `asking` tokens, times the block's factor and those that belong to their positions. */
function scaledQueries(context: BlockContext, block: Attention, q: Tensor, asking: number): Tensor {
  const { builder, shape, inputs } = context;
  const scaled = block.scalesQueries ? builder.scale(q, block.scale) : q;
  if (inputs.queryScales === null) return scaled;
  return builder.multiply(scaled, builder.lastOfThird(inputs.queryScales, shape.tokens, asking));
}

/** Attention of the last `asking` tokens, span by span, (heads * head length, asking). */
function attend(context: BlockContext, block: Attention, q: Tensor, asking: number): Tensor {
  const { builder, shape, share } = context;
  const { heads } = headsOf(block, share);
  const masks = context.inputs.masks(block.window);
  let column = 0;
  let attended: Tensor | null = null;
  for (const [index, span] of shape.spans.entries()) {
    const tokens = asking === shape.tokens ? span.tokens : span.outputs;
    if (tokens === 0) continue;
    const count = tokens * span.slots;
    const queries = count === asking ? q : builder.columnsByHead(q, block.keyLength, heads, column, count);
    const result = attendSpan(context, block, span, masks[index]!, queries, tokens);
    attended = attended === null ? result : builder.concatColumns(attended, result);
    column += count;
  }
  return builder.reshape(attended!, heads * block.valueLength, asking);
}

/**
 * Attention of the last `tokens` tokens of each slot of a span.
 *
 * @param q - (head length, heads, tokens of all slots)
 * @returns (head length, heads, tokens of all slots)
 */
function attendSpan(
  context: BlockContext,
  block: Attention,
  span: ColumnSpan,
  mask: Tensor,
  q: Tensor,
  tokens: number,
): Tensor {
  const { builder, share, slotCells } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const { keys, values, keyHeadBytes, valueHeadBytes } = context.cells(block);
  const { slot, slots } = span;
  const view = { slot, slots, slotCells, heads: kvHeads, ...seenCells(span, block.window) };
  const k = builder.cells(keys, { ...view, length: block.keyLength, headBytes: keyHeadBytes });
  const v = builder.cells(values, { ...view, length: block.valueLength, headBytes: valueHeadBytes });
  const { scalesQueries, softcap } = block;
  const scale = scalesQueries ? 1 : block.scale;
  if (slots === 1) {
    const rows = builder.lastColumns(mask, view.cells, span.tokens, tokens, 2);
    return builder.attention(q, k, v, rows, { scale, softcap });
  }
  const bySlot = builder.reshape(q, block.keyLength, heads, tokens, slots);
  const attended = builder.attention(bySlot, k, v, mask, { scale, softcap });
  return builder.reshape(attended, block.valueLength, heads, slots);
}
