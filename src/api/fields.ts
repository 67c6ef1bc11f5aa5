import { z } from "zod";
import { StelliumError } from "../errors.ts";
import type { SamplingParameters } from "../serving/samplingParameters.ts";

const mostStops = 16;
const mostInt32 = 2 ** 31 - 1;

/**
 * An array, of which no more is looked at than up to the first element that is wrong: a message about each of a hundred
 * thousand takes longer than all else.
 */
export function boundedArray<T>(element: z.ZodType<T>, most: number) {
  return z
    .array(z.unknown())
    .max(most)
    .transform((values, context): T[] => {
      const elements: T[] = [];
      for (const [index, value] of values.entries()) {
        const { data, error } = element.safeParse(value);
        if (error !== undefined) {
          const issues = error.issues.map((issue) => ({ ...issue, path: [index, ...issue.path] }));
          context.issues.push(...(issues as unknown as typeof context.issues));
          return z.NEVER;
        }
        elements.push(data);
      }
      return elements;
    });
}

const stopText = z.string().min(1).max(1000);

/** Fields that every endpoint which writes text takes. Null is as good as absent. */
export const generationFields = {
  /** Any name: there is one model. */
  model: z.string().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  n: z.int().nullish(),
  /** -1 is as many as the context holds. */
  max_tokens: z.int().min(-1).max(mostInt32).nullish(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(-1).max(mostInt32).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repeat_penalty: z.number().min(0.01).max(100).nullish(),
  repeat_last_n: z.int().min(-1).max(mostInt32).nullish(),
  presence_penalty: z.number().min(-100).max(100).nullish(),
  frequency_penalty: z.number().min(-100).max(100).nullish(),
  /** By token. */
  logit_bias: z
    .custom<Readonly<Record<string, number>>>(isLogitBias, "it has numbers from -100 to 100 for ids of tokens")
    .nullish(),
  /** Below 0 it is random. */
  seed: z.int().nullish(),
  stop: z.union([stopText, boundedArray(stopText, mostStops)]).nullish(),
  ignore_eos: z.boolean().nullish(),
};

const generationBody = z.looseObject(generationFields);

/** Values of `generationFields`. */
export type GenerationBody = z.infer<typeof generationBody>;

function isLogitBias(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const fits = (bias: unknown) => typeof bias === "number" && bias >= -100 && bias <= 100;
  return Object.entries(value).every(([token, bias]) => /^\d{1,9}$/.test(token) && fits(bias));
}

/**
 * How tokens are chosen: as the request says, else as the server was told at its start. Throws `REQUEST_INVALID` for the
 * bias of a token that the vocabulary, of so many tokens, does not have.
 */
export function requestedSampling(
  body: GenerationBody,
  defaults: SamplingParameters,
  vocabularySize: number,
): SamplingParameters {
  const bias = Object.entries(body.logit_bias ?? {}).map(([token, value]) => [Number(token), value] as const);
  const unknown = bias.find(([token]) => token >= vocabularySize);
  if (unknown !== undefined) {
    const reason = `token ${unknown[0]} is not in the vocabulary of ${vocabularySize} tokens`;
    throw new StelliumError("REQUEST_INVALID", { reason, param: "logit_bias" });
  }
  return {
    temperature: body.temperature ?? defaults.temperature,
    topP: body.top_p ?? defaults.topP,
    topK: body.top_k ?? defaults.topK,
    minP: body.min_p ?? defaults.minP,
    repeatPenalty: body.repeat_penalty ?? defaults.repeatPenalty,
    penaltyLastN: body.repeat_last_n ?? defaults.penaltyLastN,
    presencePenalty: body.presence_penalty ?? defaults.presencePenalty,
    frequencyPenalty: body.frequency_penalty ?? defaults.frequencyPenalty,
    logitBias: body.logit_bias ? new Map(bias) : defaults.logitBias,
    seed: body.seed == null ? defaults.seed : body.seed < 0 ? undefined : body.seed,
  };
}

/** Texts that end an answer. */
export function stopsOf({ stop }: GenerationBody): readonly string[] {
  return typeof stop === "string" ? [stop] : (stop ?? []);
}

/**
 * How many tokens may be written: as asked for, but no more than the context holds, as llama.cpp's server has it.
 * Throws `REQUEST_INVALID` for none, and `CONTEXT_EXCEEDED` where the prompt leaves no room.
 */
export function tokenLimit(asked: number | null | undefined, prompt: number, context: number): number {
  if (asked === 0)
    throw new StelliumError("REQUEST_INVALID", { reason: "max_tokens must not be 0", param: "max_tokens" });
  const room = context - prompt;
  if (room < 1) throw new StelliumError("CONTEXT_EXCEEDED", { prompt, predict: 1, context, param: "messages" });
  return asked == null || asked < 0 ? room : Math.min(asked, room);
}

/** Throws `REQUEST_UNSUPPORTED` for a field that asks for what there is not; `reason` says why. */
export function refuseUnless(fits: boolean, param: string, reason: string): void {
  if (!fits) throw new StelliumError("REQUEST_UNSUPPORTED", { param, reason });
}

/** More bytes a token than any text has, so that what cannot fit is refused before it is taken apart. */
const mostBytesPerToken = 64;

/** Throws `CONTEXT_EXCEEDED` for texts so long that the context cannot hold them, whatever they say. */
export function checkLength(value: unknown, context: number, param: string): void {
  const characters = lengthOf(value);
  if (characters <= Math.max(context * mostBytesPerToken, 2 ** 16)) return;
  throw new StelliumError("CONTEXT_EXCEEDED", {
    prompt: `more than ${Math.floor(characters / mostBytesPerToken)}`,
    predict: 1,
    context,
    param,
  });
}

/** Characters of all texts in a value. */
function lengthOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum: number, inner) => sum + lengthOf(inner), 0);
}
