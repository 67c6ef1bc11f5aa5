/** Projections that may carry a bias, by the stem of their GGUF name. */
export type BiasedProjection = "attn_q" | "attn_k" | "attn_v" | "attn_output" | "ffn_gate" | "ffn_up" | "ffn_down";

/** The facts that set one decoder-only architecture apart from the others. */
export interface Architecture {
  /** GGUF's `general.architecture`. */
  readonly name: string;
  /** The values that RoPE turns together: neighbours (`norm`) or the two halves of a head (`neox`). */
  readonly rope: "norm" | "neox";
  /** Whether RoPE frequencies may be scaled one by one (`rope_freqs.weight`, Llama 3.1). */
  readonly ropeFactors: boolean;
  /** Whether every head of Q and K passes an RMS norm of its own before RoPE. */
  readonly qkNorm: boolean;
  readonly requiredBiases: readonly BiasedProjection[];
  readonly optionalBiases: readonly BiasedProjection[];
}
