import type { GenerationResult } from "../../serving/generation.ts";
import { chatJob } from "../chatRequest.ts";
import { type Api, type ApiContext, newId, nowSeconds } from "../context.ts";
import { errorBody } from "../errorBody.ts";
import type { EventStream } from "../eventStream.ts";
import { readBody } from "../readBody.ts";
import { loadedModel, requestSignal, respondStream } from "../respond.ts";
import { usageOf } from "../usage.ts";
import { type AnswerWriting, write } from "../writing.ts";
import { ResponseEvents } from "./events.ts";
import { itemObject, OutputItems } from "./items.ts";
import { chatOf, type ResponsesBody, responsesBody } from "./request.ts";

/** `POST /v1/responses`: a chat request in other words. Nothing is kept between requests. */
export async function responses(api: Api, c: ApiContext): Promise<Response> {
  const { writing, shape, stream: streams } = await prepare(api, c);
  if (!streams) return c.json(await complete({ ...writing, signal: requestSignal(api, c) }, shape));
  const produce = (stream: EventStream, signal: AbortSignal) => streamResponse({ ...writing, signal }, shape, stream);
  return respondStream(api, c, produce, sendFailure);
}

/** All that an answer takes. The input, which may be long, is forgotten while the answer is written. */
function prepare(api: Api, c: ApiContext) {
  return readBody(c.req.raw, responsesBody, async (body) => {
    const model = loadedModel(api);
    const writing = { api, model, ...(await chatJob(model, chatOf(body), api.sampling)) };
    return { writing, shape: responseShape(api, body, writing.request.sampling), stream: body.stream === true };
  });
}

type ResponseWriting = Omit<AnswerWriting, "onWritten">;
type ResponseShape = ReturnType<typeof responseShape>;

async function complete(writing: ResponseWriting, shape: ResponseShape) {
  const items = new OutputItems();
  const result = await write({ ...writing, onWritten: (written) => items.add(written) });
  items.end(statusOf(result));
  return ended(shape, items, result);
}

async function streamResponse(writing: ResponseWriting, shape: ResponseShape, stream: EventStream): Promise<void> {
  const events = new ResponseEvents(stream);
  const items = new OutputItems(events);
  let begun = false;
  const begin = () => {
    if (begun) return;
    begun = true;
    const response = { ...shape, status: "in_progress", output: [] };
    events.send("response.created", { response });
    events.send("response.in_progress", { response });
  };
  const result = await write({
    ...writing,
    onWritten: (written) => {
      begin();
      items.add(written);
    },
  });
  items.end(statusOf(result));
  events.send(`response.${statusOf(result)}`, { response: ended(shape, items, result) });
}

/** Clients of this API know errors as events of their own; those of the other one look for an `error` field. */
function sendFailure(stream: EventStream, error: unknown): void {
  const { error: told } = errorBody(error);
  const { message, code, param } = told;
  stream.send({ type: "error", sequence_number: 0, code, message, param, error: told }, "error");
}

function statusOf({ finishReason }: GenerationResult): "completed" | "incomplete" {
  return finishReason === "length" ? "incomplete" : "completed";
}

/** What a response says from its beginning to its end. */
function responseShape(api: Api, body: ResponsesBody, sampling: AnswerWriting["request"]["sampling"]) {
  return {
    id: newId("resp_"),
    object: "response",
    created_at: nowSeconds(),
    model: api.id,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {},
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: sampling.temperature,
    text: body.text ?? { format: { type: "text" } },
    tool_choice: body.tool_choice ?? "auto",
    tools: body.tools ?? [],
    top_p: sampling.topP,
    truncation: "disabled",
  };
}

function ended(shape: ResponseShape, { items }: OutputItems, result: GenerationResult) {
  const status = statusOf(result);
  const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = usageOf([result]);
  return {
    ...shape,
    status,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    output: items.map(itemObject),
    usage: {
      input_tokens: prompt_tokens,
      input_tokens_details: { ...prompt_tokens_details, cache_write_tokens: 0 },
      output_tokens: completion_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens,
    },
    timings: result.timings,
  };
}
