import type { Tensor } from "../native/ggml.ts";
import type { RankBlock } from "../plan/rankDescription.ts";
import type { GraphBuilder } from "./graphBuilder.ts";
import type { Hyperparameters } from "./hyperparameters.ts";
import type { KvCache } from "./kvCache.ts";
import type { Span, StepShape } from "./step.ts";

/** What the blocks of a step read besides weights and hidden states. */
export interface BlockInputs {
  /** (tokens) i32 */
  readonly positions: Tensor;
  /** (tokens) i64: the cell each token's keys and values go to. */
  readonly cells: Tensor;
  /** (cells, tokens, 1, slots) f16, of each span. */
  readonly masks: readonly Tensor[];
}

/** Everything a block's part of a graph is built from. */
export interface BlockContext {
  readonly builder: GraphBuilder;
  readonly hyperparameters: Hyperparameters;
  readonly shape: StepShape;
  readonly inputs: BlockInputs;
  readonly kv: KvCache;
  readonly ropeFactors: Tensor | null;
  /** The tensor of a block's weight by its role, or null where the model has none. */
  weight(block: RankBlock, role: string): Tensor | null;
}

/** What a block makes of hidden states. */
export interface BlockResult {
  /**
   * (embedding length, tokens): what the block adds to the hidden states; a rank's part of it where ranks share blocks,
   * null where it has none.
   */
  readonly partial: Tensor | null;
  /** (embedding length, tokens): what it is added to. Behind the last attention, of the tokens with outputs only. */
  readonly residual: Tensor;
}

/**
 * Appends the attention or feed-forward block of a layer to the graph.
 *
 * @param hidden - (embedding length, tokens)
 * @returns null where nothing further is wanted of the step
 */
export function appendBlock(context: BlockContext, block: RankBlock, hidden: Tensor): BlockResult | null {
  return block.kind === "attention" ? appendAttention(context, block, hidden) : appendFfn(context, block, hidden);
}

/** Results of a step, in the order of its columns; null where none are wanted. */
export interface StepResults {
  /** (embedding length, hidden): final hidden states. More columns may follow. */
  readonly hidden: Tensor | null;
  /** (vocabulary size, outputs that are logits) */
  readonly logits: Tensor | null;
}

/** Appends the head. */
export function appendHead(context: BlockContext, block: RankBlock, hidden: Tensor): StepResults {
  const { builder, hyperparameters: h, shape } = context;
  const normed = builder.rmsNorm(hidden, context.weight(block, "output_norm.weight")!, h.rmsEpsilon);
  const count = shape.outputs - shape.hidden;
  const input = builder.lastColumns(normed, h.embeddingLength, shape.outputs, count);
  return {
    hidden: shape.hidden === 0 ? null : builder.output(normed),
    logits: count === 0 ? null : builder.output(builder.matMul(context.weight(block, "output.weight")!, input)),
  };
}

function appendAttention(context: BlockContext, block: RankBlock, hidden: Tensor): BlockResult | null {
  const { builder, hyperparameters: h, shape } = context;
  // Behind the last attention, tokens have no effect on each other any more: those without outputs ask for nothing.
  const asking = block.layer === h.blockCount - 1 ? shape.outputs : shape.tokens;
  const partial = block.empty ? null : attentionPartial(context, block, hidden, asking);
  return asking === 0
    ? null
    : { partial, residual: builder.lastColumns(hidden, h.embeddingLength, shape.tokens, asking) };
}

/** What attention adds to the last `asking` tokens; keys and values of all are stored for later steps. */
function attentionPartial(context: BlockContext, block: RankBlock, hidden: Tensor, asking: number): Tensor | null {
  const { builder, hyperparameters: h, shape } = context;
  const normed = builder.rmsNorm(hidden, context.weight(block, "attn_norm.weight")!, h.rmsEpsilon);
  storeKeysAndValues(context, block, normed);
  if (asking === 0) return null;
  const input = builder.lastColumns(normed, h.embeddingLength, shape.tokens, asking);
  return project(
    context,
    block,
    "attn_output",
    attend(context, block, turnedHeads(context, block, input, "q", asking), asking),
  );
}

/** Q or K of the last `tokens` tokens by heads, (head length, heads, tokens), normed where the model does so, turned by RoPE. */
function turnedHeads(context: BlockContext, block: RankBlock, input: Tensor, part: "q" | "k", tokens: number): Tensor {
  const { builder, hyperparameters: h, shape, inputs } = context;
  const projected = project(context, block, `attn_${part}`, input);
  const byHead = builder.reshape(projected, h.keyLength, part === "q" ? h.headCount : h.headCountKv, tokens);
  const norm = context.weight(block, `attn_${part}_norm.weight`);
  const normed = norm === null ? byHead : builder.rmsNorm(byHead, norm, h.rmsEpsilon);
  return builder.rope(normed, builder.last(inputs.positions, shape.tokens, tokens), context.ropeFactors, h.rope);
}

function storeKeysAndValues(context: BlockContext, block: RankBlock, input: Tensor): void {
  const { builder, hyperparameters: h, shape, inputs, kv } = context;
  const k = turnedHeads(context, block, input, "k", shape.tokens);
  const v = project(context, block, "attn_v", input);
  const rows = builder.reshape(k, h.headCountKv * h.keyLength, shape.tokens);
  builder.expand(builder.setRows(kv.keys[block.layer]!, rows, inputs.cells));
  builder.expand(builder.setRows(kv.values[block.layer]!, v, inputs.cells));
}

/** Attention of the last `asking` tokens, span by span, (heads * head length, asking). */
function attend(context: BlockContext, block: RankBlock, q: Tensor, asking: number): Tensor {
  const { builder, hyperparameters: h, shape } = context;
  let column = 0;
  let attended: Tensor | null = null;
  for (const [index, span] of shape.spans.entries()) {
    const tokens = asking === shape.tokens ? span.tokens : span.outputs;
    if (tokens === 0) continue;
    const count = tokens * span.slots;
    const queries = count === asking ? q : builder.columnsByHead(q, h.keyLength, h.headCount, column, count);
    const result = attendSpan(context, block, span, context.inputs.masks[index]!, queries, tokens);
    attended = attended === null ? result : builder.concatColumns(attended, result);
    column += count;
  }
  return builder.reshape(attended!, h.headCount * h.valueLength, asking);
}

/**
 * Attention of the last `tokens` tokens of each slot of a span.
 *
 * @param q - (head length, heads, tokens of all slots)
 * @returns (head length, heads, tokens of all slots)
 */
function attendSpan(
  { builder, hyperparameters: h, kv }: BlockContext,
  block: RankBlock,
  span: Span,
  mask: Tensor,
  q: Tensor,
  tokens: number,
): Tensor {
  const { slot, slots, cells } = span;
  const { headBytes, slotBytes } = kv;
  const view = { length: h.keyLength, cells, heads: h.headCountKv, headBytes, slot, slots, slotBytes };
  const k = builder.cells(kv.keys[block.layer]!, view);
  const v = builder.cells(kv.values[block.layer]!, view);
  if (slots === 1) {
    return builder.attention(q, k, v, builder.lastColumns(mask, cells, span.tokens, tokens, 2), h.attentionScale);
  }
  const bySlot = builder.reshape(q, h.keyLength, h.headCount, tokens, slots);
  const attended = builder.attention(bySlot, k, v, mask, h.attentionScale);
  return builder.reshape(attended, h.valueLength, h.headCount, slots);
}

function appendFfn(context: BlockContext, block: RankBlock, hidden: Tensor): BlockResult {
  const { builder, hyperparameters: h } = context;
  if (block.empty) return { partial: null, residual: hidden };
  const normed = builder.rmsNorm(hidden, context.weight(block, "ffn_norm.weight")!, h.rmsEpsilon);
  const up = project(context, block, "ffn_up", normed);
  const gate = project(context, block, "ffn_gate", normed);
  return { partial: project(context, block, "ffn_down", builder.swiglu(gate, up)), residual: hidden };
}

/** weight . input (+ bias) */
function project(context: BlockContext, block: RankBlock, stem: string, input: Tensor): Tensor {
  const product = context.builder.matMul(context.weight(block, `${stem}.weight`)!, input);
  const bias = context.weight(block, `${stem}.bias`);
  return bias === null ? product : context.builder.add(product, bias);
}
