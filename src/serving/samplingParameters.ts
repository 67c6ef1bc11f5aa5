import { StelliumError } from "../errors.ts";

/** How the next token is chosen from the logits. The stages run in the order bias, penalties, top-k, top-p, min-p, temperature. */
export interface SamplingParameters {
  /** Divides the logits before the draw; 0 takes the most likely token (greedy). */
  temperature: number;
  /** Keeps the `topK` most likely tokens; 0 or -1 keeps all. */
  topK: number;
  /** Keeps the smallest set of most likely tokens whose probability reaches this; 1 keeps all, 0 keeps one. */
  topP: number;
  /** Keeps tokens at least this many times as likely as the most likely one; 0 keeps all. */
  minP: number;
  /** Divides positive and multiplies negative logits of tokens seen in the window; 1 is none. */
  repeatPenalty: number;
  /** Subtracted once from the logit of each token seen in the window. */
  presencePenalty: number;
  /** Subtracted from a token's logit for each time it was seen in the window. */
  frequencyPenalty: number;
  /** Window of the three penalties in accepted tokens; 0 turns them off, -1 takes all tokens. */
  penaltyLastN: number;
  /** Added to the logits of these tokens; -Infinity forbids one. Ids beyond the vocabulary are ignored. */
  logitBias: ReadonlyMap<number, number>;
  /** Start of the random sequence, any safe integer: the same seed and logits give the same tokens. Random if absent. */
  seed?: number | undefined;
}

/** llama.cpp's defaults. */
export const defaultSampling: Readonly<SamplingParameters> = {
  temperature: 0.8,
  topK: 40,
  topP: 0.95,
  minP: 0.05,
  repeatPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  penaltyLastN: 64,
  logitBias: new Map(),
};

const maxInt32 = 2 ** 31 - 1;
const ranges = {
  temperature: [0, 100],
  topK: [-1, maxInt32],
  topP: [0, 1],
  minP: [0, 1],
  repeatPenalty: [0.01, 100],
  presencePenalty: [-100, 100],
  frequencyPenalty: [-100, 100],
  penaltyLastN: [-1, maxInt32],
} as const;
const integers: ReadonlySet<string> = new Set(["topK", "penaltyLastN"]);

/** Throws `BAD_USAGE`, with the value and the range, for the first parameter that is out of its range. */
export function validateSampling(parameters: SamplingParameters): void {
  for (const name of Object.keys(ranges) as (keyof typeof ranges)[]) checkRange(name, parameters[name]);
  const { seed, logitBias } = parameters;
  if (seed !== undefined && !Number.isSafeInteger(seed)) throw usage(`seed must be a safe integer, not ${seed}`);
  for (const [token, bias] of logitBias) checkBias(token, bias);
}

function checkRange(name: keyof typeof ranges, value: number): void {
  const [low, high] = ranges[name];
  const whole = integers.has(name);
  if (value >= low && value <= high && (!whole || Number.isInteger(value))) return;
  throw usage(`${name} must be ${whole ? "an integer" : "a number"} from ${low} to ${high}, not ${value}`);
}

function checkBias(token: number, bias: number): void {
  if (!Number.isInteger(token) || token < 0) throw usage(`logitBias must name token ids from 0 up, not ${token}`);
  if (Number.isNaN(bias) || bias === Infinity) {
    throw usage(`logitBias of token ${token} must be a finite number or -Infinity, not ${bias}`);
  }
}

function usage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
