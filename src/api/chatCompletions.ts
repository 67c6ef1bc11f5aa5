import type { AnswerDelta } from "../serving/answer/parser.ts";
import type { GenerationResult } from "../serving/generation.ts";
import { chatBody, chatJob } from "./chatRequest.ts";
import { type Api, type ApiContext, fingerprint, newId, nowSeconds } from "./context.ts";
import type { EventStream } from "./eventStream.ts";
import type { ContentLogprob } from "./logprobs.ts";
import { readBody } from "./readBody.ts";
import { loadedModel, requestSignal, respondStream } from "./respond.ts";
import { usageOf } from "./usage.ts";
import { type AnswerPiece, type AnswerWriting, write } from "./writing.ts";

/** `POST /v1/chat/completions`. */
export async function chatCompletions(api: Api, c: ApiContext): Promise<Response> {
  const { writing, told } = await prepare(api, c);
  if (!told.stream) return c.json(await complete({ ...writing, signal: requestSignal(api, c) }, told));
  return respondStream(api, c, (stream, signal) => streamChat({ ...writing, signal }, told, stream));
}

/** What a client wants to be told. */
interface Told {
  readonly stream: boolean;
  readonly usage: boolean;
  readonly logprobs: boolean;
}

/** All that an answer takes. The body, which may be long, is forgotten while the answer is written. */
function prepare(api: Api, c: ApiContext) {
  return readBody(c.req.raw, chatBody, async (body) => {
    const model = loadedModel(api);
    const { stream, stream_options: options, logprobs } = body;
    const told = { stream: stream === true, usage: options?.include_usage === true, logprobs: logprobs === true };
    return { writing: { api, model, ...(await chatJob(model, body, api.sampling)) }, told };
  });
}

type ChatWriting = Omit<AnswerWriting, "onWritten">;

/** The whole answer at once. */
async function complete(writing: ChatWriting, told: Told) {
  const answer = new WholeAnswer();
  const result = await write({ ...writing, onWritten: (written) => answer.add(written) });
  const logprobs = told.logprobs ? { content: answer.logprobs, refusal: null } : null;
  const choice = { index: 0, message: answer.message(), logprobs, finish_reason: finishReason(result, answer.called) };
  return {
    ...identity(writing.api, "chat.completion"),
    choices: [choice],
    usage: usageOf([result]),
    timings: result.timings,
  };
}

/** The answer in chunks, as it is written. */
async function streamChat(writing: ChatWriting, told: Told, stream: EventStream): Promise<void> {
  const chunks = new ChatChunks(writing.api, told);
  const opening = chunks.opening();
  let opened = false;
  const result = await write({
    ...writing,
    onWritten: (written) => {
      if (!opened) stream.send(opening);
      opened = true;
      for (const chunk of chunks.next(written)) stream.send(chunk);
    },
  });
  for (const chunk of chunks.closing(result)) stream.send(chunk);
  stream.send("[DONE]");
}

function identity(api: Api, object: string) {
  return { id: newId("chatcmpl-"), object, created: nowSeconds(), model: api.id, system_fingerprint: fingerprint(api) };
}

function finishReason({ finishReason: reason }: GenerationResult, called: boolean): "stop" | "length" | "tool_calls" {
  return called && reason === "stop" ? "tool_calls" : reason;
}

interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

/** Puts an answer together from its pieces. */
export class WholeAnswer {
  readonly logprobs: ContentLogprob[] = [];
  readonly calls: ToolCall[] = [];
  content = "";
  reasoning = "";

  /** Whether the model calls functions. */
  get called(): boolean {
    return this.calls.length > 0;
  }

  add({ deltas, logprob }: AnswerPiece): void {
    for (const delta of deltas) this.#take(delta);
    if (logprob !== undefined) this.logprobs.push(logprob);
  }

  /** The assistant's message. */
  message() {
    return {
      role: "assistant" as const,
      content: this.called && this.content === "" ? null : this.content,
      refusal: null,
      ...(this.reasoning !== "" && { reasoning_content: this.reasoning }),
      ...(this.called && {
        tool_calls: this.calls.map(({ id, ...call }) => ({ id, type: "function" as const, function: call })),
      }),
    };
  }

  #take(delta: AnswerDelta): void {
    if (delta.kind === "content") this.content += delta.text;
    else if (delta.kind === "reasoning") this.reasoning += delta.text;
    else {
      this.calls[delta.index] ??= { id: delta.id ?? newId("call_"), name: delta.name ?? "", arguments: "" };
      this.calls[delta.index]!.arguments += delta.arguments;
    }
  }
}

/** Writes the chunks of one streamed answer. */
class ChatChunks {
  readonly #identity: ReturnType<typeof identity>;
  readonly #withUsage: boolean;
  readonly #withLogprobs: boolean;
  /** Of tokens whose text is held back yet. */
  #logprobs: ContentLogprob[] = [];
  #calls = 0;

  constructor(api: Api, { usage, logprobs }: Told) {
    this.#identity = identity(api, "chat.completion.chunk");
    this.#withUsage = usage;
    this.#withLogprobs = logprobs;
  }

  opening(): object {
    return this.#chunk({ role: "assistant", content: "" }, null);
  }

  next({ deltas, logprob }: AnswerPiece): object[] {
    if (logprob !== undefined) this.#logprobs.push(logprob);
    return deltas.map((delta) => this.#chunk(this.#fields(delta), null));
  }

  /** The reason of the end and, where it was asked for, the usage. */
  closing(result: GenerationResult): object[] {
    const end = { ...this.#chunk({}, finishReason(result, this.#calls > 0)), timings: result.timings };
    if (!this.#withUsage) return [end];
    return [end, { ...this.#identity, choices: [], usage: usageOf([result]) }];
  }

  #chunk(delta: object, finish_reason: string | null) {
    const content = this.#logprobs;
    this.#logprobs = [];
    const logprobs = this.#withLogprobs && content.length > 0 ? { content, refusal: null } : null;
    const usage = this.#withUsage ? { usage: null } : {};
    return { ...this.#identity, choices: [{ index: 0, delta, logprobs, finish_reason }], ...usage };
  }

  #fields(delta: AnswerDelta): object {
    if (delta.kind === "content") return { content: delta.text };
    if (delta.kind === "reasoning") return { reasoning_content: delta.text };
    const first = delta.index >= this.#calls;
    this.#calls = Math.max(this.#calls, delta.index + 1);
    const opening = first ? { id: delta.id ?? newId("call_"), type: "function" } : {};
    const name = first ? { name: delta.name ?? "" } : {};
    return { tool_calls: [{ index: delta.index, ...opening, function: { ...name, arguments: delta.arguments } }] };
  }
}
