import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import type { Hyperparameters, RopeParameters } from "../hyperparameters.ts";
import type { RankShare } from "../split.ts";
import type { Span } from "../step.ts";
import type { TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/** Self-attention with grouped query heads, after an RMS norm, added to its input. */
export interface AttentionBlock extends BlockFacts {
  readonly kind: "attention";
  /** The model's; a rank has `headCount / headCountKv` query heads for each of its KV heads. */
  readonly headCount: number;
  readonly headCountKv: number;
  readonly keyLength: number;
  readonly valueLength: number;
  /** Factor on Q.K before the softmax. */
  readonly scale: number;
  readonly rmsEpsilon: number;
  readonly rope: RopeParameters;
  /** Whether tokens have no effect on each other after it: those without outputs ask for nothing. */
  readonly last: boolean;
}

/** Finds the weights of a layer's attention. Throws `MODEL_UNSUPPORTED`. */
export function describeAttention(
  finder: TensorFinder,
  architecture: Architecture,
  h: Hyperparameters,
  layer: number,
): AttentionBlock {
  const { embeddingLength, headCount, headCountKv, keyLength, valueLength, rmsEpsilon, rope } = h;
  const group = headCount / headCountKv;
  const perHead = { axis: "replicated", unit: "kvHeads" } as const;
  const rows = (each: number) => ({ axis: "rows", unit: "kvHeads", each }) as const;
  const columns = { axis: "columns", unit: "kvHeads", each: group * valueLength } as const;
  const from = finder.layer(layer, architecture);
  const weights = [
    from.vector("attn_norm.weight", embeddingLength, perHead),
    ...from.projection("attn_q", embeddingLength, headCount * keyLength, rows(group * keyLength)),
    ...from.projection("attn_k", embeddingLength, headCountKv * keyLength, rows(keyLength)),
    ...from.projection("attn_v", embeddingLength, headCountKv * valueLength, rows(valueLength)),
    ...from.projection("attn_output", headCount * valueLength, embeddingLength, columns),
  ];
  if (architecture.qkNorm) {
    weights.push(
      from.vector("attn_q_norm.weight", keyLength, perHead),
      from.vector("attn_k_norm.weight", keyLength, perHead),
    );
  }
  const heads = { headCount, headCountKv, keyLength, valueLength };
  const facts = { layer, weights, embeddingLength, rmsEpsilon, rope, last: layer === h.blockCount - 1 };
  return { kind: "attention", ...facts, ...heads, scale: h.attentionScale };
}

/** See `AttentionBlock`. */
export const attention: BlockDefinition<AttentionBlock> = {
  steps: () => [{ does: "compute", append: appendAttention }, { does: "sum" }, addSum],
  state: ({ keyLength, valueLength }) => ({ unit: "kvHeads", keyLength, valueLength }),
  cost(block, share, slots) {
    // If sequences share a pass, what attention gives to each is put together in one more copy.
    const copies = slots === 1 ? 2 : 4;
    return { workingValues: copies * headsOf(block, share).heads * block.keyLength, computes: "tokens" };
  },
};

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
  const normed = builder.rmsNorm(hidden, context.weight(block, "attn_norm.weight")!, block.rmsEpsilon);
  storeKeysAndValues(context, block, normed);
  if (asking === 0) return null;
  const input = builder.lastColumns(normed, block.embeddingLength, shape.tokens, asking);
  const q = turnedHeads(context, block, input, "q", asking);
  return project(context, block, "attn_output", attend(context, block, q, asking));
}

/** Q or K of the last `tokens` tokens by heads, (head length, heads, tokens), normed if the model does so, turned by RoPE. */
function turnedHeads(context: BlockContext, block: Attention, input: Tensor, part: "q" | "k", tokens: number): Tensor {
  const { builder, shape, inputs, share } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const projected = project(context, block, `attn_${part}`, input);
  const byHead = builder.reshape(projected, block.keyLength, part === "q" ? heads : kvHeads, tokens);
  const norm = context.weight(block, `attn_${part}_norm.weight`);
  const normed = norm === null ? byHead : builder.rmsNorm(byHead, norm, block.rmsEpsilon);
  const positions = builder.last(inputs.positions, shape.tokens, tokens);
  return builder.rope(normed, positions, context.shared("rope_freqs.weight"), block.rope);
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

/** Attention of the last `asking` tokens, span by span, (heads * head length, asking). */
function attend(context: BlockContext, block: Attention, q: Tensor, asking: number): Tensor {
  const { builder, shape, share } = context;
  const { heads } = headsOf(block, share);
  let column = 0;
  let attended: Tensor | null = null;
  for (const [index, span] of shape.spans.entries()) {
    const tokens = asking === shape.tokens ? span.tokens : span.outputs;
    if (tokens === 0) continue;
    const count = tokens * span.slots;
    const queries = count === asking ? q : builder.columnsByHead(q, block.keyLength, heads, column, count);
    const result = attendSpan(context, block, span, context.inputs.masks[index]!, queries, tokens);
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
  span: Span,
  mask: Tensor,
  q: Tensor,
  tokens: number,
): Tensor {
  const { builder, share } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const { keys, values, keyHeadBytes, valueHeadBytes, slotCells } = context.cells(block);
  const { slots, cells } = span;
  const view = { ...span, heads: kvHeads, slotCells };
  const k = builder.cells(keys, { ...view, length: block.keyLength, headBytes: keyHeadBytes });
  const v = builder.cells(values, { ...view, length: block.valueLength, headBytes: valueHeadBytes });
  if (slots === 1) {
    return builder.attention(q, k, v, builder.lastColumns(mask, cells, span.tokens, tokens, 2), block.scale);
  }
  const bySlot = builder.reshape(q, block.keyLength, heads, tokens, slots);
  const attended = builder.attention(bySlot, k, v, mask, block.scale);
  return builder.reshape(attended, block.valueLength, heads, slots);
}
