import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { embed, generateText, streamText } from "ai";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AnswerDelta } from "#stellium/api/answer";
import { createContentParser } from "#stellium/api/answer";
import { QueuedModel } from "#stellium/api/queuedModel";
import type { ApiServer } from "#stellium/api/server";
import { StelliumError } from "#stellium/errors";
import { createChatTemplate, fallbackChatTemplate } from "#stellium/serving/chatTemplate";
import { TextModel } from "#stellium/serving/textModel";
import { model as demoModel, until } from "../cli/stellium.ts";
import { FakeModel } from "./fakeModel.ts";
import { testServer } from "./harness.ts";

/** The demo model as it is served, one that fails behind its first pieces, one that goes on for ever, one that calls. */
type Which = "demo" | "failing" | "endless" | "calling";

const servers = new Map<Which, ApiServer>();
let textModel: TextModel;
const endless = new FakeModel({ pieces: new Array<string>(900).fill("x"), beforePiece: pause });

const script: AnswerDelta[][] = [
  [{ kind: "reasoning", text: "Hm" }],
  [{ kind: "toolCall", index: 0, id: "call_1", name: "sum", arguments: '{"a":' }],
  [{ kind: "toolCall", index: 0, arguments: "1}" }],
];

beforeAll(async () => {
  textModel = await TextModel.open(demoModel, { threads: 1 });
  const template = createChatTemplate(fallbackChatTemplate, { bosToken: "", eosToken: "" });
  const chat = { template, source: fallbackChatTemplate, stop: [], openAnswer: createContentParser };
  const failure = new StelliumError("WORKER_LOST", { device: "pi", reason: "it is gone" });
  const parser = () => ({ push: (text: string) => script[Number(text)]!, end: () => [] });
  servers.set("demo", await testServer({ served: new QueuedModel(textModel, chat, 100) }));
  servers.set("failing", await testServer({ served: new FakeModel({ failure }) }));
  servers.set("endless", await testServer({ served: endless }));
  servers.set("calling", await testServer({ served: new FakeModel({ pieces: ["0", "1", "2"], parser }) }));
});

afterAll(async () => {
  for (const server of servers.values()) await server.close(0);
  await textModel[Symbol.asyncDispose]();
});

const url = (which: Which) => `${servers.get(which)!.url}/v1`;
const messages = [{ role: "user" as const, content: "Speak." }];
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

  it("has many requests answered, each as alone", async () => {
    await client("demo").chat.completions.create(request);
    const alone = (await client("demo").chat.completions.create(request)).choices[0]!.message.content;
    const all = await Promise.all(Array.from({ length: 6 }, () => client("demo").chat.completions.create(request)));
    expect(all.map(({ choices }) => choices[0]!.message.content)).toEqual(new Array(6).fill(alone));
  });

  it("embeds", async () => {
    for (const encoding_format of ["float", undefined] as const) {
      const { data } = await client("failing").embeddings.create({
        model: "any",
        input: "ab",
        ...(encoding_format && { encoding_format }),
      });
      expect(data[0]!.embedding.map((value) => Math.round(value * 10))).toEqual([6, 8, 0, 0]);
    }
  });

  it("sees reasoning and calls", async () => {
    const message = await client("calling").chat.completions.stream({ model: "any", messages }).finalMessage();
    expect(message.tool_calls).toMatchObject([{ id: "call_1", function: { name: "sum", arguments: '{"a":1}' } }]);
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
      : createOpenAICompatible({ name: "stellium", baseURL: url(which) })("any");

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
    const { fullStream } = streamText({ model: of("calling"), prompt: "x", maxRetries: 0 });
    for await (const part of fullStream) parts.push(part.type);
    expect(parts).toContain("tool-call");
    if (provider === "@ai-sdk/openai-compatible") expect(parts).toContain("reasoning-delta");
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
  const of = (which: Which) =>
    new ChatOpenAI({
      model: "any",
      apiKey: "any",
      maxTokens: 8,
      maxRetries: 0,
      configuration: { baseURL: url(which) },
    });

  it("chats, and streams", async () => {
    expect((await of("demo").invoke("Speak.")).text.length).toBeGreaterThan(0);
    let text = "";
    for await (const chunk of await of("demo").stream("Speak.")) text += chunk.text;
    expect(text.length).toBeGreaterThan(0);
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
