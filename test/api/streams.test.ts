import { request as httpRequest } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { EventStream } from "#stellium/api/eventStream";
import type { ApiServer } from "#stellium/api/server";
import { until } from "../cli/stellium.ts";
import { FakeModel } from "./fakeModel.ts";
import { ask, json, testApp, testServer } from "./harness.ts";

const chat = "/v1/chat/completions";
const pingMs = 60_000;

describe("a stream of events", () => {
  it("hands on what there is, in order, and ends", async () => {
    const stream = new EventStream(pingMs);
    stream.send({ a: 1 });
    stream.send("plain", "name");
    stream.end();
    expect(await new Response(stream.body).text()).toBe('data: {"a":1}\n\nevent: name\ndata: plain\n\n');
  });

  it("sends comments to a client that waits", async () => {
    const stream = new EventStream(5);
    const reader = stream.body.getReader();
    for (let i = 0; i < 2; i++) expect(new TextDecoder().decode((await reader.read()).value)).toBe(": ping\n\n");
    stream.send(1);
    const rest = async (text = ""): Promise<string> => {
      const { value } = await reader.read();
      const all = text + new TextDecoder().decode(value);
      return all.includes("data") ? all : rest(all);
    };
    expect(await rest()).toMatch(/^(: ping\n\n)*data: 1\n\n$/);
    await reader.cancel();
    expect(stream.gone.aborted).toBe(true);
  });
});

describe("a request", () => {
  it("is stopped when the client cancels its stream", async () => {
    const model = new FakeModel({ pieces: ["a", "b"], beforePiece: pauseAfterFirst() });
    const { post } = testApp({ served: model });
    const response = await post(chat, ask("Hi", { stream: true }));
    const reader = response.body!.getReader();
    await reader.read();
    expect(model.running).toBe(1);
    await reader.cancel();
    await until(() => model.running === 0);
    expect(model.stopped).toEqual(["the client left"]);
  });

  it("gets comments while its prompt is computed", async () => {
    const prefill = new Promise<void>((resolve) => setTimeout(resolve, 900));
    const { post } = testApp({ served: new FakeModel({ prefill }), pingMs: 20 });
    const text = await (await post(chat, ask("Hi", { stream: true }))).text();
    expect(text).toMatch(/^(: ping\n\n)+data: /);
    expect(text).toMatch(/data: \[DONE\]\n\n$/);
  });
});

/** The first piece comes at once, and the second never. */
function pauseAfterFirst(): () => Promise<void> | undefined {
  let pieces = 0;
  return () => (pieces++ === 0 ? undefined : new Promise(() => {}));
}

describe("on a socket", () => {
  let server: ApiServer | undefined;
  afterEach(() => server?.close(0));

  it.each([true, false])("a client that leaves stops its request (streamed: %s)", async (stream) => {
    const model = new FakeModel({ beforePiece: () => new Promise(() => {}) });
    server = await testServer({ served: model });
    const aborter = new AbortController();
    const body = JSON.stringify(ask("Hi", { stream }));
    const asked = fetch(server.url + chat, { method: "POST", body, signal: aborter.signal }).then((r) => r.text());
    asked.catch(() => {});
    await until(() => model.running === 1);
    aborter.abort();
    await until(() => model.running === 0);
    expect(model.stopped).toHaveLength(1);
  });

  it("a client that stops reading is cut off, and holds no slot until then", async () => {
    const pieces = new Array<string>(400).fill("x".repeat(100_000));
    const model = new FakeModel({ pieces });
    server = await testServer({ served: model }, { stallMs: 300 });
    const body = JSON.stringify(ask("Hi", { stream: true }));
    const client = httpRequest(server.url + chat, { method: "POST" }, (response) => response.pause());
    client.on("error", () => {});
    client.end(body);
    await until(() => model.running === 0 && model.requests.length === 1);
    // It returns when the last connection is closed, and nobody but the server would close this one.
    await server.close(120_000);
    server = undefined;
    client.destroy();
  });

  it("ending waits for requests that run, refuses new ones, and ends those that take too long by an error", async () => {
    const model = new FakeModel({ pieces: ["a", "b"], beforePiece: pauseAfterFirst() });
    server = await testServer({ served: model });
    const { url } = server;
    const body = JSON.stringify(ask("Hi", { stream: true }));
    const answer = fetch(url + chat, { method: "POST", body }).then((response) => response.text());
    await until(() => model.running === 1);
    const closed = server.close(300);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
    expect(model.running).toBe(1);
    expect(await answer).toMatch(/"error":\{"message":"the server is stopping","type":"unavailable_error"/);
    await closed;
    server = undefined;
  });
});

it("loading and stopping are told", async () => {
  const loading = testApp({});
  expect((await loading.get("/health")).status).toBe(503);
  expect((await json(loading.get("/v1/health"))).error).toMatchObject({ code: 503, message: "Loading model" });
  const refused = await loading.post(chat, ask("Hi"));
  expect([refused.status, (await json(refused)).error.type]).toEqual([503, "unavailable_error"]);
  const stopping = testApp({ served: new FakeModel(), draining: AbortSignal.abort() });
  expect((await stopping.get("/health")).status).toBe(503);
  const late = await stopping.post(chat, ask("Hi"));
  expect([late.status, late.headers.get("connection")]).toEqual([503, "close"]);
});
