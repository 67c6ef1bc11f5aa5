import { existsSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { absentData, sharedData, skipIf } from "../skip.ts";
import { callingTemplate, FakeModel, tool } from "./fakeModel.ts";
import { ask, eventsOf, json, testApp } from "./harness.ts";

const path = sharedData("openai/openapi.yaml");
const present = existsSync(path);

interface Schema {
  properties?: { type?: { enum?: string[]; const?: string } };
  anyOf?: { $ref: string }[];
}

/** Says what is wrong with a value by OpenAI's own description; null where nothing is. */
function createValidator() {
  // `nullable` is of OpenAPI 3.0, where a type had no other way to say so.
  const reviver = (_: unknown, value: unknown) => {
    const { nullable, ...schema } = (value ?? {}) as { nullable?: boolean };
    if (nullable !== true) return value;
    return { anyOf: [schema, { type: "null" }] };
  };
  const document = parse(readFileSync(path, "utf8"), reviver) as { components: { schemas: Record<string, Schema> } };
  const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  ajv.addSchema(document, "openapi");
  const { schemas } = document.components;
  const faults = (name: string, value: unknown) => {
    const validate = ajv.getSchema(`openapi#/components/schemas/${name}`)!;
    return validate(value) ? null : validate.errors;
  };
  const names = schemas["ResponseStreamEvent"]!.anyOf!.map(({ $ref }) => $ref.split("/").at(-1)!);
  const eventSchema = (type: string) => {
    const typeOf = (name: string) => schemas[name]?.properties?.type;
    return names.find((name) => typeOf(name)?.const === type || typeOf(name)?.enum?.includes(type)) ?? "no such event";
  };
  return { faults, eventFaults: (event: { type: string }) => faults(eventSchema(event.type), event) };
}

const pieces = ["<think>Hm</think>", "So:", '<tool_call>{"name": "sum", "arguments": {"a":1}}</tool_call>'];
const plain = testApp({ served: new FakeModel() });
const rich = testApp({ served: new FakeModel({ pieces, template: callingTemplate }) });
const tools = [tool("sum")];

describe("responses are what OpenAI's description says", skipIf(!present, absentData("openai/openapi.yaml")), () => {
  const { faults, eventFaults } = present ? createValidator() : ({} as ReturnType<typeof createValidator>);
  const chat = "/v1/chat/completions";

  it("of chat", async () => {
    for (const [{ post }, offered] of [
      [plain, {}],
      [rich, { tools }],
    ] as const) {
      const whole = await json(post(chat, ask("Hi", { logprobs: true, top_logprobs: 1, ...offered })));
      expect(faults("CreateChatCompletionResponse", whole)).toBe(null);
      const request = ask("Hi", { stream: true, logprobs: true, stream_options: { include_usage: true }, ...offered });
      const events = eventsOf(await (await post(chat, request)).text()).slice(0, -1);
      for (const { data } of events) expect(faults("CreateChatCompletionStreamResponse", data)).toBe(null);
    }
  });

  it("of completions", async () => {
    const body = { prompt: ["a", "b"], logprobs: 2 };
    expect(faults("CreateCompletionResponse", await json(plain.post("/v1/completions", body)))).toBe(null);
    const events = eventsOf(await (await plain.post("/v1/completions", { ...body, stream: true })).text()).slice(0, -1);
    // The description has no chunks of its own; in all but the last there is no reason yet, as OpenAI sends it.
    for (const { data } of events) {
      data.choices[0].finish_reason ??= "stop";
      expect(faults("CreateCompletionResponse", data)).toBe(null);
    }
  });

  it("of responses", async () => {
    const functions = [{ type: "function", name: "sum", parameters: {}, strict: false }];
    for (const [{ post }, offered] of [
      [plain, {}],
      [rich, { tools: functions }],
    ] as const) {
      const body = { input: "Hi", top_logprobs: 1, ...offered };
      expect(faults("Response", await json(post("/v1/responses", body)))).toBe(null);
      const events = eventsOf(await (await post("/v1/responses", { ...body, stream: true })).text());
      for (const { event, data } of events) expect([event, eventFaults(data)]).toEqual([data.type, null]);
    }
  });

  it("of embeddings, models and errors", async () => {
    const embeddings = await json(plain.post("/v1/embeddings", { input: ["a", "b"] }));
    expect(faults("CreateEmbeddingResponse", embeddings)).toBe(null);
    expect(faults("ListModelsResponse", await json(plain.get("/v1/models")))).toBe(null);
    expect(faults("Model", await json(plain.get("/v1/models/fake")))).toBe(null);
    expect(faults("ErrorResponse", await json(plain.get("/v1/nowhere")))).toBe(null);
  });
});
