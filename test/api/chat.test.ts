import { describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import { callingPieces, callingTemplate, FakeModel, type FakeOptions, tool } from "./fakeModel.ts";
import { ask, eventsOf, json, testApp } from "./harness.ts";

const chat = "/v1/chat/completions";

function appOf(options?: FakeOptions) {
  const model = new FakeModel(options);
  return { model, ...testApp({ served: model }) };
}

const tools = [tool("sum"), tool("now")];
const id = expect.stringMatching(/^call_/);
const calling: FakeOptions = { pieces: callingPieces, template: callingTemplate };

describe("a whole answer", () => {
  it("has OpenAI's shape, usage and timings", async () => {
    const { post } = appOf();
    const body = await json(post(chat, ask("Hi")));
    expect(body).toMatchObject({
      object: "chat.completion",
      model: "fake",
      choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, logprobs: null, finish_reason: "stop" }],
      timings: { predicted_n: 2 },
    });
    expect(body.id).toMatch(/^chatcmpl-/);
    const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = body.usage;
    expect([completion_tokens, total_tokens, prompt_tokens_details]).toEqual([
      2,
      prompt_tokens + 2,
      { cached_tokens: 1 },
    ]);
  });

  it("is there without /v1 as well", async () => {
    expect((await appOf().post("/chat/completions", ask("Hi"))).status).toBe(200);
  });

  it("ends by length where max_tokens says so; the newer name wins", async () => {
    const { post, model } = appOf();
    const body = await json(post(chat, ask("Hi", { max_tokens: 2, max_completion_tokens: 1 })));
    expect([body.choices[0].finish_reason, body.choices[0].message.content]).toEqual(["length", "Hel"]);
    await post(chat, ask("Hi", { max_tokens: 100_000 }));
    const { prompt, maxTokens } = model.requests.at(-1)!;
    expect(maxTokens).toBe(model.context - prompt.length);
  });

  it("has reasoning and calls apart", async () => {
    const { choices } = await json(appOf(calling).post(chat, ask("Hi", { tools })));
    expect(choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: {
        content: null,
        reasoning_content: "Hm",
        tool_calls: [
          { id, type: "function", function: { name: "sum", arguments: '{"a":1}' } },
          { id, type: "function", function: { name: "now", arguments: "{}" } },
        ],
      },
    });
  });

  it("tells log-probabilities", async () => {
    const { choices } = await json(appOf().post(chat, ask("Hi", { logprobs: true, top_logprobs: 2 })));
    expect(choices[0].logprobs.content).toHaveLength(2);
    expect(choices[0].logprobs.content[0]).toMatchObject({
      token: "H",
      bytes: [72],
      logprob: -1,
      top_logprobs: [
        { token: "A", logprob: -1, bytes: [65] },
        { token: "B", logprob: -2, bytes: [66] },
      ],
    });
  });
});

describe("a streamed answer", () => {
  it("opens with the role, keeps its id, ends with a reason and [DONE]", async () => {
    const response = await appOf().post(chat, ask("Hi", { stream: true }));
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const events = eventsOf(await response.text()).map(({ data }) => data);
    expect(events.at(-1)).toBe("[DONE]");
    const chunks = events.slice(0, -1);
    expect(chunks.map(({ choices }) => choices[0].delta)).toEqual([
      { role: "assistant", content: "" },
      { content: "Hel" },
      { content: "lo" },
      {},
    ]);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.at(-1)).toMatchObject({ choices: [{ finish_reason: "stop" }], timings: { predicted_n: 2 } });
    expect(chunks.some((chunk) => "usage" in chunk)).toBe(false);
  });

  it("tells the usage last where it was asked for", async () => {
    const request = ask("Hi", { stream: true, stream_options: { include_usage: true } });
    const events = eventsOf(await (await appOf().post(chat, request)).text()).map(({ data }) => data);
    expect(events.at(-2)).toMatchObject({ choices: [], usage: { completion_tokens: 2 } });
    expect(events.slice(0, -2).every(({ usage }) => usage === null)).toBe(true);
  });

  it("streams reasoning and calls", async () => {
    const response = await appOf(calling).post(chat, ask("Hi", { tools, stream: true }));
    const chunks = eventsOf(await response.text()).slice(1, -1);
    expect(chunks.map(({ data }) => data.choices[0].delta)).toEqual([
      { reasoning_content: "Hm" },
      { tool_calls: [{ index: 0, id, type: "function", function: { name: "sum", arguments: '{"a":' } }] },
      { tool_calls: [{ index: 0, function: { arguments: "1}" } }] },
      { tool_calls: [{ index: 1, id, type: "function", function: { name: "now", arguments: "{}" } }] },
      {},
    ]);
    expect(chunks.at(-1)!.data.choices[0].finish_reason).toBe("tool_calls");
  });

  it("tells log-probabilities of tokens whose text is held back with the next text", async () => {
    const { post } = appOf({ pieces: ["", "é"] });
    const events = eventsOf(await (await post(chat, ask("Hi", { stream: true, logprobs: true }))).text());
    const logprobs = events.slice(0, -1).map(({ data }) => data.choices[0].logprobs?.content.length);
    expect(logprobs).toEqual([undefined, 2, undefined]);
  });

  it("answers by a status where it fails at once, and says nothing of what is not in the table", async () => {
    for (const [failure, status, type] of [
      [new StelliumError("QUEUE_FULL", { running: 1, queued: 3 }), 429, "rate_limit_error"],
      [new Error("/home/me/secret"), 500, "server_error"],
    ] as const) {
      const response = await appOf({ pieces: [], failure }).post(chat, ask("Hi", { stream: true }));
      const { error } = await json(response);
      expect([response.status, error.type]).toEqual([status, type]);
      expect(error.message).not.toContain("secret");
    }
  });

  it("ends by an error event, and never cleanly, where it fails later", async () => {
    const failure = new StelliumError("WORKER_LOST", { device: "pi", reason: "gone" });
    const response = await appOf({ failure }).post(chat, ask("Hi", { stream: true }));
    expect(response.status).toBe(200);
    const events = eventsOf(await response.text()).map(({ data }) => data);
    expect(events.at(-1)).toEqual({
      error: { message: failure.message, type: "unavailable_error", param: null, code: "worker_lost" },
    });
    expect(events.some((data) => data.choices?.[0].finish_reason)).toBe(false);
  });
});

describe("what the model is given", () => {
  it("has parts joined, developers as the system, and arguments parsed", async () => {
    const { post, model } = appOf();
    await post(chat, {
      messages: [
        { role: "developer", content: "Be short." },
        {
          role: "user",
          content: [
            { type: "text", text: "a" },
            { type: "text", text: "b" },
          ],
        },
      ],
    });
    expect(model.prompt).toBe(
      "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  it("has the request's sampling, else the server's", async () => {
    const { post, model } = appOf();
    await post(chat, ask("Hi", { temperature: 0, seed: 7, stop: "x", logit_bias: { 65: -100 }, top_k: 3 }));
    const { sampling, stop } = model.requests[0]!;
    expect(sampling).toMatchObject({ temperature: 0, seed: 7, topK: 3, topP: 0.95 });
    expect([stop, [...sampling.logitBias]]).toEqual([["x"], [[65, -100]]]);
  });

  it("has the form of the answer: free, JSON, a schema, a grammar, or calls", async () => {
    const { post, model } = appOf({ template: callingTemplate });
    const given = async (more: object) => {
      expect((await post(chat, ask("Hi", more))).status).toBe(200);
      return model.requests.at(-1)!.grammar;
    };
    const reasoning = { open: "<think>", close: "</think>", opened: false };
    const schema = { enum: ["yes"] };
    const yes = expect.stringMatching(/^root ::= "\\"yes\\""$/m);
    expect(await given({ response_format: { type: "text" } })).toBe(undefined);
    expect(await given({ response_format: { type: "json_object" } })).toMatchObject({ reasoning });
    expect(await given({ response_format: { type: "json_object", schema } })).toMatchObject({ gbnf: yes });
    expect(await given({ response_format: { type: "json_schema", json_schema: { schema } } })).toMatchObject({
      gbnf: yes,
    });
    expect(await given({ grammar: 'root ::= "no"' })).toMatchObject({ gbnf: 'root ::= "no"', reasoning });
    const auto = await given({ tools });
    expect(auto).toMatchObject({ triggers: ["<tool_call>"], gbnf: expect.stringContaining("sum") });
    expect(model.requests.at(-1)!.visible).toEqual(["<tool_call>", "</tool_call>", "<think>", "</think>"]);
    expect(await given({ tools, tool_choice: "none" })).toBe(undefined);
    expect(await given({ tools, tool_choice: "required" })).toMatchObject({ triggers: [] });
    const named = await given({ tools, tool_choice: { type: "function", function: { name: "now" } } });
    expect(named!.gbnf).not.toContain("sum");
    const either = await given({ tools, response_format: { type: "json_object", schema } });
    expect(either).toMatchObject({
      triggers: [],
      gbnf: expect.stringMatching(/^root ::= \(calls-\d+ \| answer-\d+\)$/m),
    });
  });

  it("may be bad characters that stand for others within", async () => {
    const { post, model } = appOf();
    expect((await post(chat, ask("\uf8f00\uf8f1\ud800"))).status).toBe(200);
    expect(model.prompt).toContain("\uf8f00\uf8f1");
  });
});

describe("refuses", () => {
  it.each([
    [{}, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: [{ role: "king", content: "x" }] }, "messages.0.role"],
    [ask(7), "messages.0.content"],
    [ask([{ type: "image_url", image_url: { url: "x" } }]), "messages.0.content"],
    [ask("Hi", { n: 2 }), "n"],
    [ask("Hi", { temperature: "hot" }), "temperature"],
    [ask("Hi", { temperature: -1 }), "temperature"],
    [ask("Hi", { max_tokens: 0 }), "max_tokens"],
    [ask("Hi", { stop: "" }), "stop"],
    [ask("Hi", { top_logprobs: 2 }), "top_logprobs"],
    [ask("Hi", { response_format: { type: "xml" } }), "response_format"],
    [ask("Hi", { tools: [{ type: "web_search" }] }), "tools"],
    [ask("Hi", { tools: [{ type: "function" }] }), "tools.0.function"],
    [ask("Hi", { tools: [tool("a b")] }), "tools.0.function.name"],
    [ask("Hi", { tools: [tool("sum")] }), "tools"],
    [ask("Hi", { tools: [tool("sum")], tool_choice: "often" }), "tool_choice"],
    [ask("Hi", { tools: [tool("sum")], tool_choice: { type: "function", function: { name: "x" } } }), "tool_choice"],
    [ask("Hi", { tool_choice: "required" }), "tool_choice"],
    [ask("Hi", { grammar: "root ::= root" }), "grammar"],
    [ask("Hi", { grammar: "root ::= [a]", response_format: { type: "json_object" } }), "grammar"],
    [ask("Hi", { response_format: { type: "json_schema" } }), "response_format.json_schema.schema"],
    [ask("Hi", { response_format: { type: "json_schema", json_schema: { schema: { not: {} } } } }), "response_format"],
    [ask("Hi", { store: true }), "store"],
    [ask("Hi", { audio: {} }), "audio"],
  ])("%j", async (body, param) => {
    const response = await appOf().post(chat, body);
    const { error } = await json(response);
    expect([response.status, error.type, error.param]).toEqual([400, "invalid_request_error", param]);
  });

  it("a prompt that leaves no room", async () => {
    const { post } = appOf({ context: 50 });
    for (const content of ["x".repeat(60), "x".repeat(100_000)]) {
      const { error } = await json(post(chat, ask(content)));
      expect(error.code).toBe("context_length_exceeded");
    }
  });

  it("but no field that it does not know, and no null", async () => {
    const body = ask("Hi", { user: "me", unheard_of: { a: [1] }, temperature: null, stop: null, tools: null, n: 1 });
    expect((await appOf().post(chat, body)).status).toBe(200);
  });
});
