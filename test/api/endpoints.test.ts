import { describe, expect, it } from "vitest";
import { StelliumError } from "#stellium/errors";
import { callingTemplate, FakeModel, tool } from "./fakeModel.ts";
import { ask, eventsOf, json, testApp } from "./harness.ts";

function appOf(options?: ConstructorParameters<typeof FakeModel>[0]) {
  const model = new FakeModel(options);
  return { model, ...testApp({ served: model }) };
}

describe("completions", () => {
  const path = "/v1/completions";

  it("take one prompt or several, as text or tokens", async () => {
    for (const [prompt, count] of [
      ["Hi", 1],
      [["a", "b"], 2],
      [[72, 105], 1],
      [[[72], [105]], 2],
      ["", 1],
    ] as const) {
      const { object, choices, usage } = await json(appOf().post(path, { prompt }));
      expect(object).toBe("text_completion");
      const wanted = Array.from({ length: count }, (_, index) => ({ index, text: "Hello", finish_reason: "stop" }));
      expect(choices).toMatchObject(wanted);
      expect(usage.completion_tokens).toBe(2 * count);
    }
  });

  it("write 16 tokens where nothing is said, echo the prompt, and tell log-probabilities", async () => {
    const { post, model } = appOf();
    const { choices } = await json(post(path, { prompt: "Oh ", echo: true }));
    expect([choices[0].text, model.requests[0]!.maxTokens]).toEqual(["Oh Hello", 16]);
    const { logprobs } = (await json(post(path, { prompt: "Oh", logprobs: 1 }))).choices[0];
    expect(logprobs).toEqual({
      tokens: ["H", "l"],
      token_logprobs: [-1, -1],
      top_logprobs: [{ A: -1 }, { A: -1 }],
      text_offset: [0, 1],
    });
  });

  it("stream each prompt's text by its index", async () => {
    const body = { prompt: ["a", "b"], stream: true, stream_options: { include_usage: true } };
    const events = eventsOf(await (await appOf().post(path, body)).text()).map(({ data }) => data);
    expect(events.at(-1)).toBe("[DONE]");
    expect(events.at(-2)).toMatchObject({ choices: [], usage: { completion_tokens: 4 } });
    for (const index of [0, 1]) {
      const own = events
        .slice(0, -2)
        .flatMap(({ choices }) => choices.filter((c: { index: number }) => c.index === index));
      expect(own.map(({ text }) => text).join("")).toBe("Hello");
      expect(own.map(({ finish_reason }) => finish_reason)).toEqual([null, null, "stop"]);
    }
  });

  it.each([
    [{ prompt: "x", n: 2 }, "n"],
    [{ prompt: "x", best_of: 2 }, "best_of"],
    [{ prompt: "x", suffix: "y" }, "suffix"],
    [{ prompt: "x", echo: true, logprobs: 1 }, "echo"],
    [{ prompt: [] }, "prompt"],
    [{ prompt: [[]] }, "prompt"],
    [{ prompt: [258] }, "prompt"],
    [{ prompt: new Array(65).fill("x") }, "prompt"],
    [{ prompt: [1, "x"] }, "prompt"],
    [{ prompt: "x", stop: new Array(17).fill("x") }, "stop"],
    [{}, "prompt"],
  ])("refuse %j", async (body, param) => {
    const response = await appOf().post(path, body);
    expect([response.status, (await json(response)).error.param]).toEqual([400, param]);
  });
});

describe("embeddings", () => {
  it("are of length 1, as numbers or base64", async () => {
    const { post } = appOf();
    const { data, usage } = await json(post("/v1/embeddings", { input: ["ab", "c"] }));
    expect(data).toMatchObject([{ index: 0 }, { index: 1 }]);
    for (const { embedding } of data) {
      for (const [i, value] of [0.6, 0.8, 0, 0].entries()) expect(embedding[i]).toBeCloseTo(value, 6);
    }
    expect(usage).toEqual({ prompt_tokens: 3, total_tokens: 3 });
    const [coded] = (await json(post("/v1/embeddings", { input: "ab", encoding_format: "base64" }))).data;
    const bytes = Buffer.from(coded.embedding, "base64");
    expect([bytes.length, bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual([
      16,
      Math.fround(0.6),
      Math.fround(0.8),
    ]);
  });

  it("are written piece by piece: other things run meanwhile", async () => {
    const response = await appOf().post("/v1/embeddings", { input: new Array(2048).fill("ab") });
    let [turns, reading] = [0, true];
    const count = () => {
      turns++;
      if (reading) setImmediate(count);
    };
    setImmediate(count);
    const text = await response.text();
    reading = false;
    expect(JSON.parse(text).data).toHaveLength(2048);
    expect(turns).toBeGreaterThanOrEqual(Math.floor(text.length / 2 ** 15));
  });

  it("are refused in another number of dimensions, and of what does not fit the context", async () => {
    const { post } = appOf({ context: 10 });
    const dimensions = await post("/v1/embeddings", { input: "ab", dimensions: 2 });
    expect([dimensions.status, (await json(dimensions)).error.param]).toEqual([400, "dimensions"]);
    const long = await post("/v1/embeddings", { input: "x".repeat(11) });
    expect((await json(long)).error.code).toBe("context_length_exceeded");
  });
});

describe("responses", () => {
  const path = "/v1/responses";

  it("take a conversation of items", async () => {
    const { post, model } = appOf();
    const body = await json(
      post(path, {
        instructions: "Be short.",
        input: [
          { role: "user", content: [{ type: "input_text", text: "Hi" }] },
          { type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: "Hm" }] },
          { type: "message", role: "assistant", content: [{ type: "output_text", text: "Yes?" }] },
          { role: "user", content: "Bye" },
        ],
      }),
    );
    expect(model.prompt).toBe(
      [
        "system\nBe short.<|im_end|>\n",
        "user\nHi<|im_end|>\n",
        "assistant\nYes?<|im_end|>\n",
        "user\nBye<|im_end|>\n",
        "assistant\n",
      ]
        .map((message) => `<|im_start|>${message}`)
        .join(""),
    );
    expect(body).toMatchObject({
      object: "response",
      status: "completed",
      store: false,
      output: [{ type: "message", role: "assistant", content: [{ type: "output_text", text: "Hello" }] }],
      usage: { output_tokens: 2, input_tokens_details: { cached_tokens: 1 } },
    });
  });

  it("end incomplete where max_output_tokens says so", async () => {
    const body = await json(appOf().post(path, { input: "Hi", max_output_tokens: 1 }));
    expect(body).toMatchObject({ status: "incomplete", incomplete_details: { reason: "max_output_tokens" } });
  });

  it("stream items one after the other", async () => {
    const pieces = ["<think>Hm</think>", "So", '<tool_call>{"name": "sum", "arguments": {}}</tool_call>'];
    const { post } = appOf({ pieces, template: callingTemplate });
    const { function: sum } = tool("sum");
    const body = { input: "Hi", stream: true, tools: [{ type: "function", ...sum }] };
    const events = eventsOf(await (await post(path, body)).text());
    expect(events.map(({ event }) => event?.replace("response.", ""))).toEqual([
      "created",
      "in_progress",
      ...["output_item.added", "reasoning_text.delta", "reasoning_text.done", "output_item.done"],
      ...["output_item.added", "content_part.added", "output_text.delta"],
      ...["output_text.done", "content_part.done", "output_item.done"],
      ...["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"],
      "completed",
    ]);
    expect(events.map(({ data }) => data.sequence_number)).toEqual(events.map((_, i) => i));
    const { output } = events.at(-1)!.data.response;
    expect(output.map(({ type }: { type: string }) => type)).toEqual(["reasoning", "message", "function_call"]);
    expect(output[2]).toMatchObject({ call_id: expect.stringMatching(/^call_/), name: "sum", arguments: "{}" });
  });

  it("end by an error event where they fail", async () => {
    const { post } = appOf({ failure: new StelliumError("ENGINE_FAILED", { reason: "x" }) });
    const last = eventsOf(await (await post(path, { input: "Hi", stream: true })).text()).at(-1)!;
    expect([last.event, last.data.type, last.data.code]).toEqual(["error", "error", "engine_failed"]);
  });

  it.each([
    [{ input: "x", previous_response_id: "resp_1" }, "previous_response_id"],
    [{ input: "x", conversation: "c" }, "conversation"],
    [{ input: "x", store: true }, "store"],
    [{ input: "x", background: true }, "background"],
    [{ input: "x", tools: [{ type: "web_search" }] }, "tools"],
    [{ input: "x", text: { format: { type: "xml" } } }, "response_format"],
    [{ input: [{ type: "item_reference", id: "x" }] }, "input.0"],
    [{ input: [{ role: "user", content: [{ type: "input_image" }] }] }, "input.0.content"],
    [{ input: [{ type: "function_call" }] }, "input.0.name"],
    [{ input: [] }, "input"],
    [{}, "input"],
  ])("refuse %j", async (body, param) => {
    const response = await appOf().post(path, body);
    expect([response.status, (await json(response)).error.param]).toEqual([400, param]);
  });
});

describe("texts and tokens", () => {
  it("go both ways", async () => {
    const { post } = appOf();
    expect(await json(post("/tokenize", { content: "Hé" }))).toEqual({ tokens: [72, 0xc3, 0xa9] });
    const pieces = await json(post("/tokenize", { content: "Hé", with_pieces: true }));
    expect(pieces.tokens).toEqual([
      { id: 72, piece: "H" },
      { id: 0xc3, piece: [0xc3] },
      { id: 0xa9, piece: [0xa9] },
    ]);
    expect(await json(post("/detokenize", { tokens: [72, 0xc3, 0xa9] }))).toEqual({ content: "Hé" });
    expect((await post("/detokenize", { tokens: [999] })).status).toBe(400);
  });

  it("of a conversation are the template's", async () => {
    const { prompt } = await json(appOf().post("/apply-template", ask("Hi")));
    expect(prompt).toBe("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  });
});

describe("the server tells", () => {
  const { get, post, request } = appOf();

  it("its model", async () => {
    const entry = { id: "fake", object: "model", owned_by: "stellium", name: "fake", meta: { n_embd: 4 } };
    expect(await json(get("/v1/models"))).toMatchObject({ object: "list", data: [entry] });
    expect(await json(get("/v1/models/fake"))).toMatchObject(entry);
    const missing = await get("/v1/models/some/other");
    expect([missing.status, (await json(missing)).error.type]).toEqual([404, "not_found_error"]);
  });

  it("its settings and slots", async () => {
    const { default_generation_settings, total_slots, model_path } = await json(get("/props"));
    expect([default_generation_settings.n_ctx, default_generation_settings.params.top_k]).toEqual([1000, 40]);
    expect([total_slots, model_path]).toEqual([1, "fake.gguf"]);
    expect(await json(get("/slots"))).toMatchObject([{ id: 0, is_processing: false, state: "idle", n_ctx: 1000 }]);
  });

  it("its metrics, in lines that Prometheus reads", async () => {
    const app = appOf();
    await app.post("/v1/chat/completions", ask("Hi"));
    await (await app.post("/v1/chat/completions", ask("Hi", { stream: true }))).text();
    await app.get("/wp-admin.php?x=1");
    await new Promise((resolve) => setImmediate(resolve));
    const response = await app.get("/metrics");
    expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
    const text = await response.text();
    for (const line of text.trimEnd().split("\n")) {
      expect(line).toMatch(/^(# (HELP|TYPE) [a-z_:]+ .+|[a-z_:]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [\d.e+-]+)$/);
    }
    expect(text).toContain("\nllamacpp:prompt_tokens_total 5\n");
    expect(text).toContain('\nstellium_http_requests_total{route="chat/completions",status="200"} 2\n');
    expect(text).toContain('\nstellium_http_requests_total{route="other",status="404"} 1\n');
    expect(text).toContain('\nstellium_first_token_seconds_bucket{le="+Inf"} 2\n');
  });

  it("what a path does not take", async () => {
    for (const [path, method] of [
      ["/v1/chat/completions", "GET"],
      ["/props", "POST"],
      ["/v1/models", "DELETE"],
    ] as const) {
      const response = await request(path, { method });
      expect([response.status, (await json(response)).error.code]).toEqual([405, "method_refused"]);
    }
    expect((await post("/v1/nothing", {})).status).toBe(404);
  });
});
