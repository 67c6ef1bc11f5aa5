import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import { type Hyperparameters, keepsLast } from "../hyperparameters.ts";
import type { Weight } from "../split.ts";
import type { LayerFinder, TensorFinder } from "../tensorFinder.ts";
import {
  type AttendingFacts,
  askingTokens,
  attend,
  attentionEnd,
  headsOf,
  scaledQueries,
  turned,
} from "./attention.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  blockInput,
  type Flow,
  project,
  type RankBlock,
} from "./block.ts";

/**
 * Multi-head latent attention (MLA). All heads make their keys and values from one vector per token, and only that vector
 * is cached. As in llama.cpp, no key is ever made: each head's query is multiplied by `attn_k_b` instead, which brings it to
 * the length of the vector, and the result of attention by `attn_v_b` (the absorbed form). So attention has one key for all
 * heads, and the first values of that key are the value.
 */
export interface LatentAttentionBlock extends AttendingFacts {
  readonly kind: "latentAttention";
  readonly latent: true;
  /** Length of the vector that queries are made from; 0: they are made from the hidden states. */
  readonly queryRank: number;
  /** Values of a head's query that RoPE leaves alone, and those after them that it turns. */
  readonly plainLength: number;
  readonly turnedLength: number;
  /** Values of a head's output. */
  readonly outputLength: number;
}

const unit = "kvHeads" as const;
const replicated = { axis: "replicated", unit } as const;

function describeLatentAttention(
  finder: TensorFinder,
  architecture: Architecture,
  h: Hyperparameters,
  layer: number,
): LatentAttentionBlock {
  const { embeddingLength, headCount, norm, residualScale } = h;
  const { rank, queryRank } = h.latent!;
  const from = finder.layer(layer, architecture);
  const norms = from.norms("attn_norm", "post_attention_norm", embeddingLength, unit);
  const { before, after } = norms;
  const [turnedLength, outputLength] = [h.rope.dimensions, h.valueLength];
  const columns = { axis: "columns", unit, each: outputLength } as const;
  const weights = [
    ...norms.weights,
    ...queryWeights(from, h),
    ...keyValueWeights(from, h),
    ...from.projection("attn_output", headCount * outputLength, { outputs: embeddingLength, split: columns }),
  ];
  return {
    ...{ kind: "latentAttention", latent: true, layer, weights, embeddingLength, norm, before, after, residualScale },
    ...{ headCount, headCountKv: headCount, units: h.headCountKv },
    ...{ keyLength: rank + turnedLength, valueLength: rank, queryRank },
    ...{ plainLength: h.keyLength - turnedLength, turnedLength, outputLength },
    ...{ scale: h.attentionScale, softcap: h.attentionSoftcap, scalesQueries: false },
    ...{ rope: h.rope, window: 0, cellLayer: layer, last: keepsLast(h, layer) },
  };
}

/** One matrix, or two with a norm between them. */
function queryWeights(from: LayerFinder, { embeddingLength, headCount, keyLength, latent }: Hyperparameters): Weight[] {
  const { queryRank } = latent!;
  const rows = { axis: "rows", unit, each: keyLength } as const;
  if (queryRank === 0) return [from.matrix("attn_q.weight", embeddingLength, headCount * keyLength, rows)];
  return [
    from.matrix("attn_q_a.weight", embeddingLength, queryRank, replicated),
    from.vector("attn_q_a_norm.weight", queryRank, replicated),
    from.matrix("attn_q_b.weight", queryRank, headCount * keyLength, rows),
  ];
}

/** The weights of the cached vector, which every rank with heads needs, and two matrices for each head. */
function keyValueWeights(from: LayerFinder, h: Hyperparameters): Weight[] {
  const { embeddingLength, headCount, keyLength, valueLength, rope } = h;
  const { rank } = h.latent!;
  const rows = (each: number) => ({ axis: "rows", unit, each }) as const;
  return [
    from.matrix("attn_kv_a_mqa.weight", embeddingLength, rank + rope.dimensions, replicated),
    from.vector("attn_kv_a_norm.weight", rank, replicated),
    from.matrices("attn_k_b.weight", keyLength - rope.dimensions, rank, headCount, rows(rank)),
    from.matrices("attn_v_b.weight", rank, valueLength, headCount, rows(valueLength)),
  ];
}

/** See `LatentAttentionBlock`. */
export const latentAttention: BlockDefinition<LatentAttentionBlock> = {
  describe: describeLatentAttention,
  steps: () => [{ does: "compute", append: appendLatentAttention }, { does: "sum" }, addSum],
  state: ({ keyLength, valueLength }) => ({ unit, heads: 1, keyLength, valueLength, latent: true }),
  cost(block, share, slots) {
    const { heads } = headsOf(block, share);
    const { keyLength, valueLength, queryRank, plainLength, turnedLength } = block;
    // If sequences share a pass, what attention gives to each is put together in one more copy.
    const attended = (slots === 1 ? 1 : 3) * valueLength;
    const ofHeads = heads * (plainLength + turnedLength + keyLength + attended) + queryRank;
    // Before that, three copies of the cached vector: projected, under its norm, and put together.
    return { workingValues: Math.max(ofHeads, Math.min(1, heads) * 3 * keyLength), computes: "tokens" };
  },
};

type LatentAttention = RankBlock<LatentAttentionBlock>;

function appendLatentAttention(context: BlockContext, block: LatentAttention, flow: Flow): Flow | null {
  const { builder } = context;
  const asking = askingTokens(block, context);
  if (block.empty) return attentionEnd(context, block, flow, null);
  const all = blockInput(context, block, flow.hidden);
  storeKey(context, block, all);
  if (asking === 0) return null;
  const input = builder.lastColumns(all, block.embeddingLength, flow.columns, asking);
  const q = scaledQueries(context, block, absorbedQueries(context, block, input, asking), asking);
  const outputs = headOutputs(context, block, attend(context, block, q, asking), asking);
  return attentionEnd(context, block, flow, project(context, block, "attn_output", outputs));
}

/** Stores the vector of each token, under its norm, followed by the values of the key that RoPE turns. */
function storeKey(context: BlockContext, block: LatentAttention, input: Tensor): void {
  const { builder, inputs, cells } = context;
  const { tokens } = context.shape;
  const { keyLength, valueLength, turnedLength } = block;
  const both = project(context, block, "attn_kv_a_mqa", input);
  const heads = { length: keyLength, heads: 1, columns: tokens };
  const turning = turned(context, block, builder.partOfHeads(both, heads, valueLength, turnedLength), tokens);
  const unnormed = builder.partOfColumns(both, keyLength, tokens, 0, valueLength);
  const vector = normed(context, block, "attn_kv_a_norm", unnormed);
  const key = builder.concat(builder.reshape(vector, valueLength, 1, tokens), turning, 0);
  builder.expand(builder.setRows(cells(block).keys, builder.reshape(key, keyLength, tokens), inputs.cells));
}

/** (key length, heads, tokens): queries that meet the cached vector, followed by the values that RoPE turns. */
function absorbedQueries(context: BlockContext, block: LatentAttention, input: Tensor, tokens: number): Tensor {
  const { builder, share } = context;
  const { plainLength, turnedLength } = block;
  const q = projectQueries(context, block, input);
  const heads = { length: plainLength + turnedLength, heads: headsOf(block, share).heads, columns: tokens };
  const turning = turned(context, block, builder.partOfHeads(q, heads, plainLength, turnedLength), tokens);
  const plain = builder.swapHeads(builder.partOfHeads(q, heads, 0, plainLength));
  const absorbed = builder.matMul(context.weight(block, "attn_k_b.weight")!, plain);
  return builder.concat(builder.swapHeads(absorbed), turning, 0);
}

function projectQueries(context: BlockContext, block: LatentAttention, input: Tensor): Tensor {
  if (block.queryRank === 0) return project(context, block, "attn_q", input);
  const vector = normed(context, block, "attn_q_a_norm", project(context, block, "attn_q_a", input));
  return project(context, block, "attn_q_b", vector);
}

function normed(context: BlockContext, block: LatentAttention, stem: string, rows: Tensor): Tensor {
  return context.builder.norm(rows, context.weight(block, `${stem}.weight`)!, block.norm);
}

/** (heads * output length, tokens): the result of attention in the length of values. */
function headOutputs(context: BlockContext, block: LatentAttention, attended: Tensor, tokens: number): Tensor {
  const { builder, share } = context;
  const { heads } = headsOf(block, share);
  const byHead = builder.swapHeads(builder.reshape(attended, block.valueLength, heads, tokens));
  const outputs = builder.matMul(context.weight(block, "attn_v_b.weight")!, byHead);
  return builder.reshape(builder.contiguous(builder.swapHeads(outputs)), heads * block.outputLength, tokens);
}
