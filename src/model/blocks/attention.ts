import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import { type ColumnSpan, seenCells } from "../batch.ts";
import { type Hyperparameters, keepsLast } from "../hyperparameters.ts";
import type { RopeParameters } from "../rope.ts";
import { factorsFor } from "../ropeFactors.ts";
import type { RankShare, Weight } from "../split.ts";
import type { LayerFinder, TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type BlockStep,
  blockInput,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/** Facts of a block that attends to what is in the KV cache. */
export interface AttendingFacts extends BlockFacts {
  /** The model's, in this layer; a rank has `headCount / headCountKv` query heads for each of its KV heads. */
  readonly headCount: number;
  readonly headCountKv: number;
  /** Units that ranks divide these into. */
  readonly units: number;
  /** Values of a key and of a value, as they are cached. */
  readonly keyLength: number;
  readonly valueLength: number;
  /** See `CellState.latent`. */
  readonly latent?: boolean;
  /** Factor on Q.K before the softmax, and what scores are capped at softly after that; 0: not. */
  readonly scale: number;
  readonly softcap: number;
  /** True if the factor is on Q. */
  readonly scalesQueries: boolean;
  /** Null if it has no RoPE. */
  readonly rope: RopeParameters | null;
  /** Tokens that a token sees, itself included; 0: all before it. */
  readonly window: number;
  /** The layer whose keys and values it reads: its own, or an earlier one if it has none. */
  readonly cellLayer: number;
  /** True if no layer after it keeps keys: tokens without outputs ask for nothing. */
  readonly last: boolean;
}

/** Self-attention with grouped query heads, added to its input. */
export interface AttentionBlock extends AttendingFacts {
  readonly kind: "attention";
  /** True if the layer's feed-forward takes the same input, so that one sum serves both. */
  readonly parallel: boolean;
  /** Norms of Q and K before RoPE. */
  readonly qkNorm: Architecture["qkNorm"] | undefined;
  /** The projection that gives values, and whether these are normed. */
  readonly valuesFrom: "attn_v" | "attn_k";
  readonly valueNorm: boolean;
}

function describeAttention(
  finder: TensorFinder,
  architecture: Architecture,
  h: Hyperparameters,
  layer: number,
): AttentionBlock {
  const { embeddingLength, norm, residualScale, attentionScale: scale, attentionSoftcap: softcap } = h;
  const { parallel = false, scalesQueries = false, valueNorm = false } = architecture;
  const from = finder.layer(layer, architecture);
  const heads = headsIn(h, layer);
  const { weights: norms, before, after } = from.norms("attn_norm", "post_attention_norm", embeddingLength, "kvHeads");
  const qkNorm = queryKeyNorm(from, architecture);
  const cellLayer = h.cellLayers[layer]!;
  const valuesFrom = architecture.keysAsValues && !from.has("attn_v.weight") ? "attn_k" : "attn_v";
  const parts = partsOf(cellLayer === layer, valuesFrom);
  const weights = [
    ...norms,
    ...queriesKeysValues(from, heads, embeddingLength, parts),
    ...output(from, heads, embeddingLength),
    ...parts.flatMap((part) => (part === "v" ? [] : queryKeyNorms(from, qkNorm, heads, part))),
    ...(architecture.sinks ? [sinks(from, heads)] : []),
  ];
  const last = keepsLast(h, layer);
  const facts = {
    embeddingLength,
    norm,
    before,
    after,
    residualScale,
    scale,
    softcap,
    scalesQueries,
    parallel,
    qkNorm,
  };
  const values = { cellLayer, valuesFrom, valueNorm } as const;
  return {
    kind: "attention",
    layer,
    weights,
    ...heads,
    ...facts,
    ...values,
    ...layerFacts(architecture, h, layer),
    last,
  };
}

/** The heads of a layer. */
type Heads = Pick<AttentionBlock, "headCount" | "headCountKv" | "units" | "keyLength" | "valueLength">;

function headsIn(h: Hyperparameters, layer: number): Heads {
  const { keyLength, valueLength } = h.sliding?.layers[layer] ? h.sliding : h;
  return { headCount: h.headCount, headCountKv: h.headCountsKv[layer]!, units: h.headCountKv, keyLength, valueLength };
}

/** The projections of a layer's input. */
function partsOf(keeps: boolean, valuesFrom: AttentionBlock["valuesFrom"]): readonly ("q" | "k" | "v")[] {
  if (!keeps) return ["q"];
  return valuesFrom === "attn_v" ? ["q", "k", "v"] : ["q", "k"];
}

/** The split of what has `each` rows or columns for each of `count` heads. */
function byHeads(axis: "rows" | "columns", { units }: Heads, count: number, each: number) {
  return { axis, unit: "kvHeads", each: (count / units) * each } as const;
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

/** The kind of norms that Q and K of a layer have. */
function queryKeyNorm(from: LayerFinder, { qkNorm, qkNormOptional = false }: Architecture): Architecture["qkNorm"] {
  const absent = qkNormOptional && !["q", "k"].some((part) => from.has(`attn_${part}_norm.weight`));
  return absent ? undefined : qkNorm;
}

function sinks(from: LayerFinder, heads: Heads): Weight {
  return from.vector("attn_sinks.weight", heads.headCount, byHeads("rows", heads, heads.headCount, 1));
}

/** The norm of Q or K: of one head, or of the heads that a rank has. */
function queryKeyNorms(from: LayerFinder, qkNorm: Architecture["qkNorm"], heads: Heads, part: Part): Weight[] {
  const { headCount, headCountKv, keyLength } = heads;
  const [role, count] = [`attn_${part}_norm.weight`, part === "q" ? headCount : headCountKv];
  if (qkNorm === undefined) return [];
  if (qkNorm === "head") return [from.vector(role, keyLength, { axis: "replicated", unit: "kvHeads" })];
  return [from.vector(role, count * keyLength, byHeads("rows", heads, count, keyLength))];
}

/** Q, K and V, as far as they are projected: matrices of their own, or the rows of one (`attn_qkv`). */
function queriesKeysValues(
  from: LayerFinder,
  heads: Heads,
  embeddingLength: number,
  parts: readonly ("q" | "k" | "v")[],
): Weight[] {
  const { headCount, headCountKv, keyLength, valueLength } = heads;
  const sizes = { q: [headCount, keyLength], k: [headCountKv, keyLength], v: [headCountKv, valueLength] } as const;
  const projections = parts.map((part) => {
    const [count, length] = sizes[part];
    return { stem: `attn_${part}`, outputs: count * length, split: byHeads("rows", heads, count, length) } as const;
  });
  if (from.has("attn_qkv.weight")) return from.fused("attn_qkv", embeddingLength, projections);
  return projections.flatMap(({ stem, ...size }) => from.projection(stem, embeddingLength, size));
}

function output(from: LayerFinder, heads: Heads, embeddingLength: number): Weight[] {
  const { headCount, valueLength } = heads;
  const split = byHeads("columns", heads, headCount, valueLength);
  return from.projection("attn_output", headCount * valueLength, { outputs: embeddingLength, split });
}

/** See `AttentionBlock`. */
export const attention: BlockDefinition<AttentionBlock> = {
  describe: describeAttention,
  steps: ({ parallel, qkNorm, undivided }) => [
    ...(qkNorm === "all" && !undivided ? normedOverRanks : [{ does: "compute", append: appendAttention } as const]),
    ...(parallel ? [] : [sum, addSum]),
  ],
  state: ({ layer, cellLayer, headCountKv, units, keyLength, valueLength }) =>
    cellLayer === layer ? { unit: "kvHeads", heads: headCountKv / units, keyLength, valueLength } : undefined,
  cost(block, share, slots) {
    const { kvHeads, heads } = headsOf(block, share);
    // If sequences share a pass, what attention gives to each is put together in one more copy.
    const copies = slots === 1 ? 2 : 4;
    const kept =
      block.qkNorm === "all" && !block.undivided ? [heads, kvHeads].map((count) => count * block.keyLength) : [];
    const computes = block.last && block.cellLayer !== block.layer ? "outputs" : "tokens";
    return { workingValues: copies * heads * block.keyLength, computes, kept };
  },
};

const sum = { does: "sum" } as const;

type Part = "q" | "k";

/** Which row of what is summed up is of Q, and which of K. */
const rows: Readonly<Record<Part, number>> = { q: 0, k: 1 };
const rowCount = Object.keys(rows).length;

/** A norm over heads of several ranks needs the squares of all before any rank can go on. */
const normedOverRanks: readonly BlockStep<AttentionBlock>[] = [
  { does: "compute", leaves: rowCount, append: appendProjections },
  sum,
  { does: "compute", append: appendNormedAttention },
];

type Attention = RankBlock<AttentionBlock>;
type Attending = RankBlock<AttendingFacts>;

/** A rank's heads, and those that their keys and values are of. */
export function headsOf({ headCount, headCountKv, units, latent = false }: AttendingFacts, { kvHeads }: RankShare) {
  const { count } = kvHeads;
  return { kvHeads: latent ? Math.min(1, count) : count * (headCountKv / units), heads: count * (headCount / units) };
}

/** Tokens of which a block's attention is asked for. */
export function askingTokens({ last }: Attending, { shape }: BlockContext): number {
  return last ? shape.outputs : shape.tokens;
}

function appendAttention(context: BlockContext, block: Attention, flow: Flow): Flow | null {
  const { builder } = context;
  const asking = askingTokens(block, context);
  if (block.empty) return attentionEnd(context, block, flow, null);
  const all = blockInput(context, block, flow.hidden);
  if (block.cellLayer === block.layer) storeCells(context, block, all);
  if (asking === 0) return null;
  const input = builder.lastColumns(all, block.embeddingLength, flow.columns, asking);
  const q = projectHeads(context, block, "q", input);
  return attentionEnd(context, block, flow, attentionOutput(context, block, q, asking));
}

/** Stores keys and values of all tokens for later passes, from the block's input. */
function storeCells(context: BlockContext, block: Attention, input: Tensor): void {
  const k = projectHeads(context, block, "k", input);
  storeKeys(context, block, k);
  storeValues(context, block, block.valuesFrom === "attn_k" ? k : project(context, block, "attn_v", input));
}

/** Q and K, which are kept, and their mean squares over all heads, to be summed up. */
function appendProjections(context: BlockContext, block: Attention, flow: Flow): Flow {
  if (block.empty) return { ...flow, partial: null };
  const { builder } = context;
  const { headCount, headCountKv, keyLength } = block;
  const input = blockInput(context, block, flow.hidden);
  storeValues(context, block, project(context, block, "attn_v", input));
  const [q, k] = [project(context, block, "attn_q", input), project(context, block, "attn_k", input)];
  const squares = [
    builder.meanSquares(q, headCount * keyLength),
    builder.meanSquares(k, headCountKv * keyLength),
  ] as const;
  return { ...flow, partial: builder.concat(...squares, 0), kept: [q, k] };
}

function appendNormedAttention(context: BlockContext, block: Attention, flow: Flow): Flow | null {
  const { partial, kept } = flow;
  if (block.empty) return attentionEnd(context, block, flow, null);
  const { builder, shape, share } = context;
  const asking = askingTokens(block, context);
  const roots = builder.root(partial!, block.norm);
  const normedTogether = (part: Part) => {
    const root = builder.partOfColumns(roots, rowCount, shape.tokens, rows[part], 1);
    const divided = builder.divideColumns(kept![rows[part]]!, root);
    return builder.multiply(divided, context.weight(block, `attn_${part}_norm.weight`)!);
  };
  storeKeys(context, block, normedTogether("k"));
  if (asking === 0) return null;
  const queryLength = headsOf(block, share).heads * block.keyLength;
  const q = builder.lastColumns(normedTogether("q"), queryLength, shape.tokens, asking);
  return attentionEnd(context, block, flow, attentionOutput(context, block, q, asking));
}

/** The flow after attention; null if no token asks for it. */
export function attentionEnd(context: BlockContext, block: Attending, flow: Flow, partial: Tensor | null): Flow | null {
  const asking = askingTokens(block, context);
  if (asking === 0) return null;
  const residual = context.builder.copyOfLast(flow.hidden, block.embeddingLength, flow.columns, asking);
  return { hidden: residual, partial, columns: asking };
}

/** The attention output of the last `asking` tokens, from their Q. */
function attentionOutput(context: BlockContext, block: Attention, q: Tensor, asking: number): Tensor {
  const queries = scaledQueries(context, block, turnedHeads(context, block, q, "q", asking), asking);
  return project(context, block, "attn_output", attend(context, block, queries, asking));
}

/**
 * Q or K of the last `tokens` tokens by heads, (head length, heads, tokens), turned by RoPE; if heads are normed, each by
 * itself, that comes first.
 */
function turnedHeads(context: BlockContext, block: Attention, from: Tensor, part: Part, tokens: number): Tensor {
  const { builder, share } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const byHead = builder.reshape(from, block.keyLength, part === "q" ? heads : kvHeads, tokens);
  return turned(context, block, block.qkNorm === "head" ? normed(context, block, part, byHead) : byHead, tokens);
}

/** Q or K, projected from the input; of a norm over all heads, this rank has all. */
function projectHeads(context: BlockContext, block: Attention, part: Part, input: Tensor): Tensor {
  const heads = project(context, block, `attn_${part}`, input);
  return block.qkNorm === "all" ? normed(context, block, part, heads) : heads;
}

/** Q or K under its norm: over rows of one head, or of all heads. */
function normed(context: BlockContext, block: Attention, part: Part, rows: Tensor): Tensor {
  return context.builder.norm(rows, context.weight(block, `attn_${part}_norm.weight`)!, block.norm);
}

/** (head length, heads, tokens) of the last tokens, turned by RoPE if the block has it. */
export function turned(context: BlockContext, { rope }: Attending, heads: Tensor, tokens: number): Tensor {
  if (rope === null) return heads;
  const pair = context.shared(`rope_factors_${factorsFor(rope, context.slotCells)}.weight`);
  const factors = rope.factors ? (context.shared("rope_freqs.weight") ?? pair) : null;
  return context.builder.rope(heads, context.inputs.positions(tokens), factors, rope);
}

/** Stores the keys of all tokens for later passes, from their K. */
function storeKeys(context: BlockContext, block: Attention, k: Tensor): void {
  const { builder, shape, inputs, share } = context;
  const heads = turnedHeads(context, block, k, "k", shape.tokens);
  const keys = builder.reshape(heads, headsOf(block, share).kvHeads * block.keyLength, shape.tokens);
  builder.expand(builder.setRows(context.cells(block).keys, keys, inputs.cells));
}

function storeValues(context: BlockContext, block: Attention, v: Tensor): void {
  const { builder, shape, inputs, cells } = context;
  const values = block.valueNorm ? normedValues(context, block, v, shape.tokens) : v;
  builder.expand(builder.setRows(cells(block).values, values, inputs.cells));
}

/** Values under a norm of each head by itself. */
function normedValues({ builder, share }: BlockContext, block: Attention, v: Tensor, tokens: number): Tensor {
  const { kvHeads } = headsOf(block, share);
  const byHead = builder.norm(builder.reshape(v, block.valueLength, kvHeads, tokens), null, block.norm);
  return builder.reshape(byHead, kvHeads * block.valueLength, tokens);
}

/** Queries of the last `asking` tokens, times the block's factor and those that belong to their positions. */
export function scaledQueries(context: BlockContext, block: Attending, q: Tensor, asking: number): Tensor {
  const { builder, shape, inputs } = context;
  const scaled = block.scalesQueries ? builder.scale(q, block.scale) : q;
  if (inputs.queryScales === null) return scaled;
  return builder.multiply(scaled, builder.lastOfThird(inputs.queryScales, shape.tokens, asking));
}

/** Attention of the last `asking` tokens, span by span, (heads * value length, asking). */
export function attend(context: BlockContext, block: Attending, q: Tensor, asking: number): Tensor {
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
    attended = attended === null ? result : builder.concat(attended, result, 2);
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
  block: Attending,
  span: ColumnSpan,
  mask: Tensor,
  q: Tensor,
  tokens: number,
): Tensor {
  const { builder, share, slotCells } = context;
  const { heads, kvHeads } = headsOf(block, share);
  const { keys, values, keyHeadBytes, valueHeadBytes } = context.cells({ layer: block.cellLayer });
  const { slot, slots } = span;
  const view = { slot, slots, slotCells, heads: kvHeads, ...seenCells(span, block.window) };
  const k = builder.cells(keys, { ...view, length: block.keyLength, headBytes: keyHeadBytes });
  const v = builder.cells(values, { ...view, length: block.valueLength, headBytes: valueHeadBytes });
  const { scalesQueries, softcap } = block;
  const scores = { scale: scalesQueries ? 1 : block.scale, softcap, sinks: context.weight(block, "attn_sinks.weight") };
  if (slots === 1) {
    const rows = builder.lastColumns(mask, view.cells, span.tokens, tokens, 2);
    return builder.attention(q, k, v, rows, scores);
  }
  const bySlot = builder.reshape(q, block.keyLength, heads, tokens, slots);
  const attended = builder.attention(bySlot, k, v, mask, scores);
  return builder.reshape(attended, block.valueLength, heads, slots);
}
