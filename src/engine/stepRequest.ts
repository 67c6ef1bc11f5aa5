import type { Batch } from "../model/batch.ts";
import type { Hyperparameters } from "../model/hyperparameters.ts";
import { type CommandLimits, stepFits } from "./rankCommand.ts";

/** Tokens of one sequence that a pass is to take. */
export interface StepRequest {
  /** Ids, each below the vocabulary's size. */
  readonly tokens: ArrayLike<number>;
  /** Position of the first of them: how many tokens of the sequence are in the KV cache already. */
  readonly position: number;
  /** The last so many tokens get results. */
  readonly outputs: number;
  /** Which sequence of the KV cache; 0 if absent. */
  readonly slot?: number;
  /** True if results are to be hidden states after the last norm; logits if absent. */
  readonly hidden?: boolean;
}

/** Values that results take: a row for each token that has some. */
export type ResultWidths = Pick<Hyperparameters, "vocabularySize" | "embeddingLength">;

/** The pass that is asked for. Throws `RangeError` if it cannot be taken; without logits there are no hidden states either. */
export function requestedStep(parts: readonly StepRequest[], limits: CommandLimits, widths: ResultWidths): Batch {
  const step = parts.map(({ tokens, position, outputs, slot = 0, hidden = false }) => {
    return { slot, tokens: tokens.length, position, outputs, hidden };
  });
  if (!stepFits(step, limits)) {
    throw new RangeError(`the step ${JSON.stringify(step)} does not fit ${JSON.stringify(limits)}`);
  }
  if (limits.outputs === 0 && step.some((part) => part.hidden)) throw new RangeError("it gives no hidden states");
  for (const { tokens } of parts) checkTokens(tokens, widths.vocabularySize);
  return step;
}

/** Values of all results of a pass. */
export function resultElements(step: Batch, { vocabularySize, embeddingLength }: ResultWidths): number {
  return outputsOf(step, false) * vocabularySize + outputsOf(step, true) * embeddingLength;
}

function outputsOf(step: Batch, ofHidden: boolean): number {
  return step.reduce((sum, { outputs, hidden }) => sum + (hidden === ofHidden ? outputs : 0), 0);
}

function checkTokens(tokens: ArrayLike<number>, vocabularySize: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (!(token >= 0 && token < vocabularySize)) throw new RangeError(`there is no token ${token}`);
  }
}
