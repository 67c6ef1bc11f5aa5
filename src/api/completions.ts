import { z } from "zod";
import { StelliumError } from "../errors.ts";
import { createAnswerParser } from "../serving/answer/parser.ts";
import type { GenerationRequest, GenerationResult } from "../serving/generation.ts";
import { constraintFields, constraintOf } from "./constraint.ts";
import { type Api, type ApiContext, fingerprint, newId, nowSeconds } from "./context.ts";
import type { EventStream } from "./eventStream.ts";
import { checkLength, generationFields, refuseUnless, requestedSampling, stopsOf, tokenLimit } from "./fields.ts";
import { LegacyLogprobs } from "./legacyLogprobs.ts";
import { readBody } from "./readBody.ts";
import { loadedModel, requestSignal, respondStream } from "./respond.ts";
import type { ServedModel } from "./servedModel.ts";
import { usageOf } from "./usage.ts";
import { type AnswerPiece, write } from "./writing.ts";

type Prompts = string | readonly string[] | readonly number[] | readonly (readonly number[])[];

/** Texts or token ids: one prompt, or several. */
export const promptsSchema = z.custom<Prompts>(isPrompts, "it is a text, texts, token ids, or lists of token ids");

/** Prompts have a hundred thousand tokens: they are looked at once. */
function isPrompts(value: unknown): boolean {
  if (!Array.isArray(value)) return typeof value === "string";
  const kinds = [
    (one: unknown) => typeof one === "string",
    isToken,
    (one: unknown) => Array.isArray(one) && one.every(isToken),
  ];
  return kinds.some((isKind) => value.every(isKind));
}

/** Whether a value may be the id of a token. */
export function isToken(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;
}

const mostPrompts = 64;

const completionBody = z.looseObject({
  ...generationFields,
  ...constraintFields,
  prompt: promptsSchema,
  logprobs: z.int().min(0).max(20).nullish(),
  echo: z.boolean().nullish(),
  suffix: z.string().nullish(),
  best_of: z.int().nullish(),
});

type CompletionBody = z.infer<typeof completionBody>;

/** A prompt, and what is to be generated for it. */
interface Completion {
  readonly index: number;
  /** Written before the answer where the client wants it. */
  readonly echo: string;
  readonly request: GenerationRequest;
}

/** `POST /v1/completions`. */
export async function completions(api: Api, c: ApiContext): Promise<Response> {
  const job = await prepare(api, c);
  if (!job.told.stream) return c.json(await complete(job, requestSignal(api, c)));
  return respondStream(api, c, (stream, signal) => streamCompletions(job, stream, signal));
}

/** All that the answers take. The body, which may be long, is forgotten while they are written. */
function prepare(api: Api, c: ApiContext): Promise<Job> {
  return readBody(c.req.raw, completionBody, (body) => jobOf(api, body));
}

async function jobOf(api: Api, body: CompletionBody): Promise<Job> {
  const model = loadedModel(api);
  checkCompletion(body);
  const shared = { ...requestOf(api, model, body), grammar: await constraintOf(model, body) };
  const prompts = await promptsOf(model, body.prompt);
  const wanted: Completion[] = [];
  for (const prompt of prompts) wanted.push(await completionOf(model, body, shared, prompt, wanted.length));
  const { stream, stream_options: options, logprobs } = body;
  const told = { stream: stream === true, usage: options?.include_usage === true, logprobs: logprobs != null };
  return { api, model, told, wanted };
}

interface Job {
  readonly api: Api;
  readonly model: ServedModel;
  /** What the client wants to be told. */
  readonly told: { readonly stream: boolean; readonly usage: boolean; readonly logprobs: boolean };
  readonly wanted: readonly Completion[];
}

async function complete(job: Job, signal: AbortSignal) {
  const texts = job.wanted.map(({ echo }) => [echo]);
  const logprobs = job.wanted.map(({ echo }) => new LegacyLogprobs(echo.length));
  const results = await writeAll(job, signal, ({ index }, written) => {
    texts[index]!.push(textOf(written));
    logprobs[index]!.add(written.logprob);
  });
  const choices = results.map(({ finishReason }, index) => ({
    index,
    text: texts[index]!.join(""),
    logprobs: job.told.logprobs ? logprobs[index]!.take() : null,
    finish_reason: finishReason,
  }));
  return { ...identity(job.api), choices, usage: usageOf(results), timings: results.at(-1)!.timings };
}

async function streamCompletions(job: Job, stream: EventStream, signal: AbortSignal): Promise<void> {
  const shared = { ...identity(job.api), ...(job.told.usage && { usage: null }) };
  const logprobs = job.wanted.map(({ echo }) => new LegacyLogprobs(echo.length));
  const send = (index: number, text: string, finish_reason: string | null, more: object = {}) => {
    const told = job.told.logprobs ? logprobs[index]!.take() : null;
    stream.send({ ...shared, choices: [{ index, text, logprobs: told, finish_reason }], ...more });
  };
  for (const { index, echo } of job.wanted) if (echo !== "") send(index, echo, null);
  const onEnd = ({ index }: Completion, { finishReason, timings }: GenerationResult) =>
    send(index, "", finishReason, { timings });
  const onWritten = ({ index }: Completion, written: AnswerPiece) => {
    logprobs[index]!.add(written.logprob);
    if (textOf(written) !== "") send(index, textOf(written), null);
  };
  const results = await writeAll(job, signal, onWritten, onEnd);
  if (job.told.usage) stream.send({ ...shared, choices: [], usage: usageOf(results) });
  stream.send("[DONE]");
}

/** Generates for all prompts at a time. Where one fails, the others are stopped. */
async function writeAll(
  { api, model, wanted }: Job,
  signal: AbortSignal,
  onWritten: (completion: Completion, written: AnswerPiece) => void,
  onEnd: (completion: Completion, result: GenerationResult) => void = () => {},
): Promise<GenerationResult[]> {
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  const run = async (completion: Completion) => {
    const { request } = completion;
    const parser = createAnswerParser({});
    const told = (written: AnswerPiece) => onWritten(completion, written);
    const result = await write({ api, model, request, parser, signal: either, onWritten: told });
    onEnd(completion, result);
    return result;
  };
  try {
    return await Promise.all(wanted.map(run));
  } finally {
    failure.abort("another prompt of the request failed");
  }
}

function textOf({ deltas }: AnswerPiece): string {
  return deltas.map((delta) => (delta.kind === "content" ? delta.text : "")).join("");
}

function identity(api: Api) {
  return {
    id: newId("cmpl-"),
    object: "text_completion",
    created: nowSeconds(),
    model: api.id,
    system_fingerprint: fingerprint(api),
  };
}

function checkCompletion(body: CompletionBody): void {
  refuseUnless((body.n ?? 1) === 1, "n", "there is one answer to a prompt");
  refuseUnless((body.best_of ?? 1) === 1, "best_of", "there is one answer to a prompt");
  refuseUnless(!body.suffix, "suffix", "this server only continues texts");
  refuseUnless(!(body.echo && body.logprobs != null), "echo", "log-probabilities of the prompt are not computed");
}

/** What is the same for all prompts. */
function requestOf(api: Api, model: ServedModel, body: CompletionBody) {
  return {
    sampling: requestedSampling(body, api.sampling, model.tokenizer.size),
    stop: stopsOf(body),
    ignoreEos: body.ignore_eos ?? false,
    logprobs: body.logprobs ?? undefined,
  };
}

async function completionOf(
  model: ServedModel,
  body: CompletionBody,
  shared: Omit<GenerationRequest, "prompt" | "maxTokens">,
  prompt: Int32Array,
  index: number,
): Promise<Completion> {
  const maxTokens = tokenLimit(body.max_tokens ?? defaultTokens, prompt.length, model.context);
  const echo = body.echo ? await model.tokenizer.decodeAside(prompt) : "";
  return { index, echo, request: { ...shared, prompt, maxTokens } };
}

/** OpenAI's. A text, unlike an answer, has no end of its own. */
const defaultTokens = 16;

/** The prompts as tokens. Throws `REQUEST_INVALID` for too many, none, or tokens that there are not. */
export async function promptsOf(model: ServedModel, given: Prompts, most = mostPrompts): Promise<Int32Array[]> {
  const prompts = separate(given);
  if (prompts.length === 0) throw invalid("there is no prompt");
  if (prompts.length > most) throw invalid(`there are ${prompts.length} prompts, and at most ${most} may be`);
  const encoded: Int32Array[] = [];
  for (const prompt of prompts) encoded.push(await encode(model, prompt));
  return encoded;
}

type Prompt = string | readonly number[];

function separate(given: Prompts): readonly Prompt[] {
  if (typeof given === "string") return [given];
  return given.length > 0 && typeof given[0] === "number" ? [given as readonly number[]] : (given as readonly Prompt[]);
}

async function encode(model: ServedModel, prompt: Prompt): Promise<Int32Array> {
  if (typeof prompt === "string") {
    checkLength(prompt, model.context, "prompt");
    return await model.encodePrompt(prompt);
  }
  if (prompt.length === 0) throw invalid("a prompt of token ids has none");
  const unknown = prompt.find((token) => token >= model.tokenizer.size);
  if (unknown === undefined) return Int32Array.from(prompt);
  throw invalid(`token ${unknown} is not in the vocabulary of ${model.tokenizer.size} tokens`);
}

function invalid(reason: string): StelliumError {
  return new StelliumError("REQUEST_INVALID", { reason, param: "prompt" });
}
