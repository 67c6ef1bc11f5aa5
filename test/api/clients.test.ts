import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { embed, generateText, jsonSchema, Output, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { LoadedModel } from "#stellium/api/servedModel";
import type { ApiServer } from "#stellium/api/server";
import { StelliumError } from "#stellium/errors";
import { fallbackChatTemplate, openChatTemplate } from "#stellium/serving/chatTemplate";
import { TextModel } from "#stellium/serving/textModel";
import { model as demoModel, until } from "../cli/stellium.ts";
import { callingPieces, callingTemplate, FakeModel, tool as sent } from "./fakeModel.ts";
import { testServer } from "./harness.ts";

/** The demo model as it is served, one that fails behind its first pieces, one that goes on for ever, one that calls. */
type Which = "demo" | "failing" | "endless" | "calling";

const servers = new Map<Which, ApiServer>();
let textModel: TextModel;
const endless = new FakeModel({ pieces: new Array<string>(900).fill("x"), beforePiece: pause });

beforeAll(async () => {
  textModel = await TextModel.open(demoModel, { threads: 1, parallel: 2 });
  const source = `${fallbackChatTemplate}{# <tool_call> #}`;
  const specials = { bosToken: "", eosToken: "" };
  const template = await openChatTemplate(textModel.sandbox, { name: "the chat template", source, ...specials });
  const demo = new LoadedModel(textModel, { template, source, stop: [] });
  const failure = new StelliumError("WORKER_LOST", { device: "pi", reason: "it is gone" });
  servers.set("demo", await testServer({ served: demo }));
  servers.set("failing", await testServer({ served: new FakeModel({ failure }) }));
  servers.set("endless", await testServer({ served: endless }));
  servers.set(
    "calling",
    await testServer({ served: new FakeModel({ pieces: callingPieces, template: callingTemplate }) }),
  );
});

afterAll(async () => {
  for (const server of servers.values()) await server.close(0);
  await textModel[Symbol.asyncDispose]();
});

const url = (which: Which) => `${servers.get(which)!.url}/v1`;
const messages = [{ role: "user" as const, content: "Speak." }];
const weather = z.object({ city: z.enum(["Oslo", "Bern"]), days: z.int().min(1).max(9) });
const lost = /the device pi was lost: it is gone/;

/** Waits until one more request was stopped before its end. */
async function oneStopped(action: () => Promise<void>): Promise<void> {
  const before = endless.stopped.length;
  await action();
  await until(() => endless.stopped.length > before && endless.running === 0);
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

describe("openai", () => {
  const client = (which: Which) => new OpenAI({ baseURL: url(which), apiKey: "any", maxRetries: 0 });
  const request = { model: "any", messages, max_tokens: 12, temperature: 0 };

  it("chats, and a stream says the same", async () => {
    // From here on all of the prompt but its last token is in the KV cache: the same shapes give the same bits.
    await client("demo").chat.completions.create(request);
    const whole = await client("demo").chat.completions.create(request);
    const text = whole.choices[0]!.message.content!;
    expect([text.length > 0, whole.usage?.completion_tokens]).toEqual([true, 12]);
    const options = { stream_options: { include_usage: true }, stream: true } as const;
    let streamed = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of await client("demo").chat.completions.create({ ...request, ...options })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    expect([streamed, usage?.completion_tokens]).toEqual([text, 12]);
    expect(usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(0);
  });

  it("completes, answers by responses, lists models", async () => {
    const completion = await client("demo").completions.create({ model: "any", prompt: "ROMEO:", max_tokens: 4 });
    expect(completion.choices[0]!.text.length).toBeGreaterThan(0);
    const response = await client("demo").responses.create({ model: "any", input: "Speak.", max_output_tokens: 4 });
    expect(response.output_text.length).toBeGreaterThan(0);
    const stream = await client("demo").responses.create({
      model: "any",
      input: "Speak.",
      max_output_tokens: 4,
      stream: true,
    });
    const types: string[] = [];
    for await (const event of stream) types.push(event.type);
    expect([types[0], types.at(-1)]).toEqual(["response.created", "response.incomplete"]);
    expect((await client("demo").models.list()).data[0]!.id).toBe("fake");
    expect((await client("demo").models.retrieve("fake")).id).toBe("fake");
  });

  it("has JSON written by a schema", async () => {
    const response_format = zodResponseFormat(weather, "weather");
    const { choices } = await client("demo").chat.completions.parse({ ...request, max_tokens: 250, response_format });
    expect(weather.parse(choices[0]!.message.parsed)).toBeTruthy();
    const text = { format: zodTextFormat(weather, "weather") };
    const response = await client("demo").responses.parse({ model: "any", input: "x", text, max_output_tokens: 250 });
    expect(weather.parse(response.output_parsed)).toBeTruthy();
  });

  it("has functions called", async () => {
    const tools = [zodFunction({ name: "forecast", parameters: weather })];
    const body = { ...request, max_tokens: 250, tools, tool_choice: "required", parallel_tool_calls: false } as const;
    const { choices } = await client("demo").chat.completions.parse(body);
    const [call] = choices[0]!.message.tool_calls!;
    expect(choices[0]!.finish_reason).toBe("tool_calls");
    expect(weather.parse(call!.function.parsed_arguments)).toBeTruthy();
    const streamed = await client("demo").chat.completions.stream(body).finalMessage();
    const [again] = streamed.tool_calls!;
    if (again!.type !== "function") throw new Error("it is no call of a function");
    expect(weather.parse(JSON.parse(again!.function.arguments))).toBeTruthy();
  });

  it("embeds", async () => {
    for (const encoding_format of ["float", undefined] as const) {
      const body = { model: "any", input: "ab", ...(encoding_format && { encoding_format }) };
      const { data } = await client("failing").embeddings.create(body);
      expect(data[0]!.embedding.map((value) => Math.round(value * 10))).toEqual([6, 8, 0, 0]);
      const { data: real } = await client("demo").embeddings.create({ ...body, input: ["Rome", "A horse!"] });
      for (const { embedding } of real) expect(Math.hypot(...embedding)).toBeCloseTo(1, 4);
    }
  });

  it("sees reasoning and calls", async () => {
    const tools = [sent("sum"), sent("now")];
    const message = await client("calling").chat.completions.stream({ model: "any", messages, tools }).finalMessage();
    expect(message.tool_calls).toMatchObject([
      { function: { name: "sum", arguments: '{"a":1}' } },
      { function: { name: "now", arguments: "{}" } },
    ]);
  });

  it("raises at an error in the middle", async () => {
    const read = async () => {
      const stream = await client("failing").chat.completions.create({ ...request, stream: true });
      for await (const _ of stream);
    };
    await expect(read()).rejects.toThrow(lost);
    const stream = await client("failing").responses.create({ model: "any", input: "x", stream: true });
    const readResponse = async () => {
      for await (const _ of stream);
    };
    await expect(readResponse()).rejects.toThrow(lost);
    await expect(client("failing").chat.completions.create(request)).rejects.toMatchObject({ status: 503 });
  });

  it("stops what it aborts", async () => {
    await oneStopped(async () => {
      const stream = await client("endless").chat.completions.create({ ...request, max_tokens: 900, stream: true });
      for await (const chunk of stream) if (chunk.choices[0]!.delta.content) break;
    });
  });

  it("is told what it asks too much", async () => {
    const asked = client("demo").chat.completions.create({ ...request, n: 2 });
    await expect(asked).rejects.toMatchObject({ status: 400, code: "unsupported_value", param: "n" });
  });
});

describe.each(["@ai-sdk/openai", "@ai-sdk/openai-compatible"])("ai with %s", (provider) => {
  const of = (which: Which) =>
    provider === "@ai-sdk/openai"
      ? createOpenAI({ baseURL: url(which), apiKey: "any" })("any")
      : createOpenAICompatible({ name: "stellium", baseURL: url(which), supportsStructuredOutputs: true })("any");

  it("writes, and streams", async () => {
    const settings = { model: of("demo"), prompt: "Speak.", maxOutputTokens: 8, maxRetries: 0 };
    const { text, usage } = await generateText(settings);
    expect([text.length > 0, usage.outputTokens]).toEqual([true, 8]);
    const streamed = streamText(settings);
    expect((await streamed.text).length).toBeGreaterThan(0);
    expect(await streamed.finishReason).toBe("length");
  });

  it("sees reasoning and calls", async () => {
    const parts: string[] = [];
    const inputSchema = jsonSchema({ type: "object" });
    const execute = () => "done";
    const tools = { sum: tool({ inputSchema, execute }), now: tool({ inputSchema, execute }) };
    const { fullStream } = streamText({ model: of("calling"), prompt: "x", maxRetries: 0, tools });
    for await (const part of fullStream) parts.push(part.type);
    expect(parts).toContain("tool-call");
    if (provider === "@ai-sdk/openai-compatible") expect(parts).toContain("reasoning-delta");
  });

  it("has objects written by a schema, and functions called", async () => {
    const settings = { model: of("demo"), prompt: "Speak.", maxOutputTokens: 250, maxRetries: 0, temperature: 0 };
    const { output } = await generateText({ ...settings, output: Output.object({ schema: weather }) });
    expect(weather.parse(output)).toBeTruthy();
    const tools = { forecast: tool({ inputSchema: weather, execute: () => "rain" }) };
    const { toolCalls } = await generateText({ ...settings, tools, toolChoice: "required" });
    expect(weather.parse(toolCalls[0]!.input)).toBeTruthy();
  });

  it("raises at an error in the middle", async () => {
    const errors: unknown[] = [];
    const onError = ({ error }: { error: unknown }) => void errors.push(error);
    const { fullStream } = streamText({ model: of("failing"), prompt: "x", maxRetries: 0, onError });
    for await (const _ of fullStream);
    expect(JSON.stringify(errors, (_, value) => (value instanceof Error ? value.message : value))).toMatch(lost);
  });

  it("stops what it aborts", async () => {
    const aborter = new AbortController();
    await oneStopped(async () => {
      const settings = { model: of("endless"), prompt: "x", abortSignal: aborter.signal, maxRetries: 0 };
      for await (const _ of streamText(settings).textStream) aborter.abort();
    });
  });
});

it("ai embeds", async () => {
  const provider = createOpenAI({ baseURL: url("failing"), apiKey: "any" });
  const { embedding } = await embed({ model: provider.embedding("any"), value: "ab" });
  expect(embedding.map((value) => Math.round(value * 10))).toEqual([6, 8, 0, 0]);
});

describe("langchain", () => {
  const settings = { model: "any", apiKey: "any", maxTokens: 8, maxRetries: 0 };
  const of = (which: Which) => new ChatOpenAI({ ...settings, configuration: { baseURL: url(which) } });

  it("chats, and streams", async () => {
    expect((await of("demo").invoke("Speak.")).text.length).toBeGreaterThan(0);
    let text = "";
    for await (const chunk of await of("demo").stream("Speak.")) text += chunk.text;
    expect(text.length).toBeGreaterThan(0);
  });

  it("has objects written by a schema, and functions called", async () => {
    const model = new ChatOpenAI({
      ...settings,
      maxTokens: 250,
      temperature: 0,
      configuration: { baseURL: url("demo") },
    });
    const structured = model.withStructuredOutput(weather, { method: "jsonSchema" });
    expect(weather.parse(await structured.invoke("Speak."))).toBeTruthy();
    const tools = [{ type: "function", function: { name: "forecast", parameters: z.toJSONSchema(weather) } }];
    const { tool_calls } = await model.bindTools(tools, { tool_choice: "forecast" }).invoke("Speak.");
    expect(weather.parse(tool_calls![0]!.args)).toBeTruthy();
  });

  it("embeds", async () => {
    const embeddings = new OpenAIEmbeddings({
      apiKey: "any",
      model: "any",
      configuration: { baseURL: url("failing") },
    });
    expect((await embeddings.embedQuery("ab")).map((value) => Math.round(value * 10))).toEqual([6, 8, 0, 0]);
  });

  it("raises at an error in the middle", async () => {
    const read = async () => {
      for await (const _ of await of("failing").stream("Speak."));
    };
    await expect(read()).rejects.toThrow(lost);
  });

  it("stops what it aborts", async () => {
    const aborter = new AbortController();
    const read = async () => {
      const model = new ChatOpenAI({ model: "any", apiKey: "any", configuration: { baseURL: url("endless") } });
      for await (const _ of await model.stream("Speak.", { signal: aborter.signal })) aborter.abort();
    };
    await oneStopped(() => expect(read()).rejects.toThrow());
  });
});
