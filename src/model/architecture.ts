import type { BlockKind } from "./blocks/block.ts";
import type { GatedActivation } from "./graphBuilder.ts";

/**
 * The facts that set one decoder-only architecture apart from the others. Keys are GGUF's, without the architecture's
 * name in front; the values of keys belong to a model, not to its architecture.
 */
export interface Architecture {
  /** GGUF's `general.architecture`. */
  readonly name: string;
  /** Models of this architecture, for people. */
  readonly models: string;
  /** Kinds of the blocks of a layer, in order. Default attention and feed-forward. */
  readonly layer?: readonly BlockKind[];
  /**
   * The values that RoPE turns together: neighbours (`norm`) or the two halves of a head (`neox`). `mrope` and `imrope`
   * turn halves, in sections (the key `rope.dimension_sections`) that images make use of; in `imrope` they interleave.
   */
  readonly rope: RopeMode;
  /** The same for models with the key `rope.dimension_sections`. Default as without. */
  readonly ropeInSections?: "mrope";
  /**
   * Tensors of factors on RoPE's frequencies that a model may have: `rope_freqs.weight` (Llama 3.1), or a pair for long
   * and short contexts (`rope_factors_long.weight`, LongRoPE). Default none.
   */
  readonly ropeFactors?: readonly ("freqs" | "longrope")[];
  /** Layers whose attention has RoPE: only `sliding` ones (all, if there are none), or all but every Nth. Default all. */
  readonly ropeLayers?: "sliding" | { readonly allButEvery: number };
  /** True if a key `rope.scaling.finetuned` that is false takes RoPE from all layers. Default false. */
  readonly ropeSwitch?: boolean;
  /** Layers of a size whose attention is scaled by the root of embedding values a head, not of a key's. Default none. */
  readonly scaleByEmbeddingAt?: number;
  /** True if the scale of attention is on Q, before the product with K: it rounds differently. Default false. */
  readonly scalesQueries?: boolean;
  /** Default `rms`. */
  readonly norm?: "rms" | "layer";
  /** Norms of a block: before its first matrices, after its sum, or both. Default `before`. */
  readonly norms?: "before" | "after" | "both";
  /** Name of the norm before the feed-forward matrices. Default `ffn_norm`. */
  readonly feedForwardNorm?: "ffn_norm" | "post_attention_norm";
  /** True if feed-forward takes attention's input, under the same norm, so that one sum serves both. Default false. */
  readonly parallel?: boolean;
  /** Norms of Q and of K before RoPE: of each head by itself, or of all heads together. Default none. */
  readonly qkNorm?: "head" | "all";
  /** True if models may lack these norms. Default false. */
  readonly qkNormOptional?: boolean;
  /** True if values are normed, each head by itself and without weights. Default false. */
  readonly valueNorm?: boolean;
  /** True if a layer without `attn_v` takes what `attn_k` gives for values. Default false. */
  readonly keysAsValues?: boolean;
  /** True if the last layers read the cells of earlier ones; the key `attention.shared_kv_layers` says how many do. Default false. */
  readonly sharedCells?: boolean;
  /** True if each head has one more score, of no value, in its softmax (`attn_sinks.weight`). Default false. */
  readonly sinks?: boolean;
  /** Function of the gate. Default `silu`. */
  readonly activation?: "silu" | "gelu";
  /** True if `ffn_up` holds the gate's rows, followed by its own. Default false. */
  readonly fusedGate?: boolean;
  readonly biases?: Biases;
  /** Layers with a router (`ffn_gate_inp.weight`) are mixtures of experts, about which this says more. Default none. */
  readonly experts?: ExpertFacts;
  /** Layers that see only a window of tokens, if the model has a window. Default none. */
  readonly sliding?: Sliding;
  /** Factor on the embedding: the root of its length, or the key `embedding_scale`. Default none. */
  readonly embeddingScale?: "root" | "key";
  /** Effect of the key `logit_scale` on the logits. Default none. */
  readonly logitScale?: "multiply" | "divide";
  /** True if the key `residual_scale` is a factor on what a block adds. Default false. */
  readonly residualScale?: boolean;
  /** Soft caps on attention scores and on logits, without the keys `attn_logit_softcapping` and `final_...`; 0: none. */
  readonly softcaps?: { readonly attention?: number; readonly logits?: number };
  /** The scale of attention, or true if the key `attention.scale` is. Default by the length of a head. */
  readonly attentionScale?: number | true;
  /**
   * The key `attention.temperature_scale` makes queries of later tokens larger: of those after the original context of RoPE
   * (`originalContext`), or after the length in the key `attention.temperature_length` (`key`). Default: it does not.
   */
  readonly temperatureScale?: "originalContext" | "key";
}

/**
 * How experts are chosen and weighted. What a model has besides is told by its tensors: a correction of the choice
 * (`exp_probs_b`), a shared expert (`ffn_up_shexp`) and its gate (`ffn_gate_inp_shexp`), biases.
 */
export interface ExpertFacts {
  /**
   * What makes probabilities of the router's values: `softmax` over all, `sigmoid` of each, or `softmaxOfChosen`. Default
   * `softmax`.
   */
  readonly gating?: Gating;
  /** True if the key `expert_gating_func` says it instead, where it is there. Default false. */
  readonly gatingByKey?: boolean;
  /** Models of such a number of layers (`block_count`) and tokens that use `sigmoid` if no key says otherwise. Default none. */
  readonly sigmoidAt?: { readonly layers: readonly number[]; readonly vocabulary: number };
  /** True if the weights of the chosen ones are divided by their sum; `key`: if `expert_weights_norm` is. Default false. */
  readonly normalized?: boolean | "key";
  /** True if the key `expert_weights_scale` is a factor on the weights. Default false. */
  readonly scaled?: boolean;
  /**
   * True if the shared expert is an ordinary feed-forward network (`ffn_up`): it and the experts have norms of their own
   * before and after, and the router a scale on the normed hidden states. Default false.
   */
  readonly beside?: boolean;
  /** Function of the gate. Default `silu`. */
  readonly activation?: GatedActivation;
}

/** See `ExpertFacts.gating`. */
export type Gating = "softmax" | "sigmoid" | "softmaxOfChosen";

/** See `Architecture.rope`. */
export type RopeMode = "norm" | "neox" | "mrope" | "imrope";

/** Projections that may carry a bias, by the stem of their GGUF name. */
export type BiasedProjection = (typeof projections)[number];

/** Biases of projections. Other ones are refused. */
export interface Biases {
  readonly required?: readonly BiasedProjection[];
  readonly optional?: readonly BiasedProjection[];
}

/** Which layers see only a window of tokens. */
export interface Sliding {
  /**
   * The last layer of each period sees everything, unless the key `attention.sliding_window_pattern` says otherwise.
   * Absent if the key has to say it.
   */
  readonly period?: number;
  /** Tokens of a window, if the key `attention.sliding_window` is absent; no window if this is absent, too. */
  readonly window?: number;
  /** Number of layers of models that have a window; others ignore the key. Default any. */
  readonly onlyOf?: number;
  /**
   * Base frequency of RoPE in sliding layers without the key `rope.freq_base_swa`: a number, or that of the others
   * (`others`). Default that of the others, whatever the key says.
   */
  readonly ropeBase?: number | "others";
  /** What of RoPE's scaling sliding layers do without: the factor on frequencies, or all of it. Default nothing. */
  readonly ropeUnscaled?: "frequencies" | "all";
  /** True if sliding layers do without the tensors of `ropeFactors`. Default false. */
  readonly ropeFactorless?: boolean;
}

/** All projections. */
export const projections = [
  ...(["attn_q", "attn_k", "attn_v", "attn_output"] as const),
  ...(["ffn_gate", "ffn_up", "ffn_down"] as const),
];
