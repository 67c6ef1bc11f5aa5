import type { SamplingParameters } from "./samplingParameters.ts";

/** Logit bias and penalties: they touch few logits, so they edit in place and put the old values back. */
export interface LogitAdjustments {
  /** Edits `logits`; call `restore` with the same array before the next `apply`. */
  apply(logits: Float32Array): void;
  restore(logits: Float32Array): void;
  /** Adds a token to the penalty window. */
  accept(token: number): void;
}

/** The adjustments of one sequence, with its own penalty window. */
export function createLogitAdjustments(parameters: SamplingParameters): LogitAdjustments {
  const seen = createPenaltyWindow(windowLength(parameters));
  const editor = createEditor();
  return {
    accept: seen.accept,
    restore: editor.restore,
    apply: (logits) => {
      for (const [token, bias] of parameters.logitBias) editor.set(logits, token, logits[token]! + bias);
      for (const [token, count] of seen.counts) {
        editor.set(logits, token, penalize(logits[token]!, count, parameters));
      }
    },
  };
}

/** The formula of llama.cpp and CTRL (Keskar et al., 2019) for repetition, OpenAI's for the other two. */
function penalize(logit: number, count: number, parameters: SamplingParameters): number {
  const { repeatPenalty, presencePenalty, frequencyPenalty } = parameters;
  const repeated = logit <= 0 ? logit * repeatPenalty : logit / repeatPenalty;
  return repeated - count * frequencyPenalty - presencePenalty;
}

/** 0 where the penalties would change nothing. */
function windowLength(parameters: SamplingParameters): number {
  const { repeatPenalty, presencePenalty, frequencyPenalty, penaltyLastN } = parameters;
  const none = repeatPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
  if (none) return 0;
  return penaltyLastN < 0 ? Infinity : penaltyLastN;
}

function createPenaltyWindow(length: number) {
  const ring: number[] = [];
  const counts = new Map<number, number>();
  let oldest = 0;
  const remember = (token: number) => {
    if (length === Infinity) return;
    if (ring.length < length) return void ring.push(token);
    forget(counts, ring[oldest]!);
    ring[oldest] = token;
    oldest = (oldest + 1) % length;
  };
  const accept = (token: number) => {
    if (length === 0) return;
    remember(token);
    counts.set(token, (counts.get(token) ?? 0) + 1);
  };
  return { counts, accept };
}

function forget(counts: Map<number, number>, token: number): void {
  const left = counts.get(token)! - 1;
  if (left > 0) counts.set(token, left);
  else counts.delete(token);
}

function createEditor() {
  const tokens: number[] = [];
  const olds: number[] = [];
  return {
    set: (logits: Float32Array, token: number, value: number) => {
      const old = logits[token];
      if (old === undefined) return;
      tokens.push(token);
      olds.push(old);
      logits[token] = value;
    },
    restore: (logits: Float32Array) => {
      while (tokens.length > 0) logits[tokens.pop()!] = olds.pop()!;
    },
  };
}
