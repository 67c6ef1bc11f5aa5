import { connect } from "node:net";
import fc from "fast-check";
import { expect, it } from "vitest";
import { bodyText, mostBodyBytes } from "#stellium/api/bodyText";
import { faultOf, type MalformedRequest, malformedRequest } from "../../bench/apiFuzz/malformed.mjs";
import { deferred } from "../deferred.ts";
import { FakeModel } from "./fakeModel.ts";
import { ask, json, testApp, testServer } from "./harness.ts";

const app = testApp({ served: new FakeModel({ context: 200 }) });

it("malformed requests are refused, and by nothing but 4xx", async () => {
  const check = async (request: MalformedRequest) => {
    const { path, method, headers, body } = request;
    const init = body === undefined ? { method, headers } : { method, headers, body };
    const response = await app.request(`http://localhost${path}`, init);
    expect(faultOf(request, response.status, await response.text())).toBe(undefined);
  };
  await fc.assert(fc.asyncProperty(malformedRequest, check), { numRuns: 4000 });
});

it("bodies that are too large or nest too deep are refused", async () => {
  const large = await app.post("/v1/chat/completions", ask("x".repeat(mostBodyBytes)));
  expect([large.status, (await json(large)).error.code]).toEqual([413, "body_too_large"]);
  const depth = 100_000;
  const deep = await app.post("/v1/chat/completions", `{"messages":${"[".repeat(depth)}${"]".repeat(depth)}}`);
  expect(deep.status).toBe(400);
  const kwargs = `{"a":${"[".repeat(100)}${"]".repeat(100)}}`;
  const nested = `{"messages":[{"role":"user","content":"Hi","x":${kwargs}}],"chat_template_kwargs":${kwargs}}`;
  expect((await app.post("/v1/chat/completions", nested)).status).toBeLessThan(500);
});

it("bodies of too many fields are refused, whatever the fields are", async () => {
  const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`field${i}`, 1]));
  const { status } = await app.post("/v1/chat/completions", ask("Hi", fields(32_000)));
  expect(status).toBe(200);
  const { error } = await json(app.post("/v1/chat/completions", ask("Hi", fields(33_000))));
  expect(error.message).toBe("the body has more than 32768 fields");
});

it("bodies that arrive at once are bounded together, and the one that was silent longest gives way", async () => {
  const ends: (() => void)[] = [];
  const hang = () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        controller.enqueue(new Uint8Array(mostBodyBytes - 10));
        ends.push(() => controller.close());
      },
    });
    return app.request("/tokenize", { method: "POST", body, duplex: "half" } as RequestInit);
  };
  const hanging = Array.from({ length: 4 }, hang);
  const content = JSON.stringify({ content: "x".repeat(50) });
  expect((await app.post("/tokenize", content)).status).toBe(200);
  const refused = await Promise.race(hanging);
  expect([refused.status, (await json(refused)).error.code]).toEqual([429, "bodies_too_large"]);
  for (const end of ends.slice(1)) end();
  expect((await Promise.all(hanging)).map(({ status }) => status)).toEqual([429, 400, 400, 400]);
  expect((await app.post("/tokenize", content)).status).toBe(200);
});

it("bodies count until their request is prepared", async () => {
  const served = new FakeModel();
  const { promise, resolve } = deferred<string>();
  Object.assign(served.chat.template, { render: () => promise });
  const preparing = testApp({ served });
  const body = JSON.stringify(ask("Hi", { more: new Array(250_000).fill(1) }));
  const taken = [preparing.post("/apply-template", body), preparing.post("/apply-template", body)];
  const refused = await preparing.post("/apply-template", body);
  expect([refused.status, (await json(refused)).error.code]).toEqual([429, "bodies_in_use"]);
  resolve("prompt");
  expect((await Promise.all(taken)).map(({ status }) => status)).toEqual([200, 200]);
  expect((await preparing.post("/apply-template", body)).status).toBe(200);
});

it.each([
  ["brings nothing", () => new Promise<void>(() => {}), { silentMs: 20, wholeMs: 60_000 }, "0.02 s"],
  [
    "trickles",
    () => new Promise<void>((resolve) => setTimeout(resolve, 5)),
    { silentMs: 60_000, wholeMs: 40 },
    "0.04 s",
  ],
])("a body that %s is given up", async (_, pause, patience, time) => {
  const body = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      await pause();
      controller.enqueue(new Uint8Array(1));
    },
  });
  const request = new Request("http://localhost/", { method: "POST", body, duplex: "half" } as RequestInit);
  const expected = { code: "REQUEST_TOO_SLOW", status: 408, message: expect.stringContaining(time) };
  await expect(bodyText(request, patience)).rejects.toMatchObject(expected);
});

it("what is not HTTP is refused, and so are endless heads", async () => {
  const server = await testServer({ served: new FakeModel() });
  const { port } = new URL(server.url);
  try {
    const answers = await Promise.all(
      [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\u0000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(100_000)}\r\n\r\n`,
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
      ].map((text) => sent(Number(port), text)),
    );
    for (const answer of answers) {
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      expect(answer).toMatch(/^X-Content-Type-Options: nosniff\r$/im);
      expect(JSON.parse(answer.split("\r\n\r\n")[1]!).error.message).toMatch(/./);
    }
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  } finally {
    await server.close(0);
  }
});

/** What the server says before it hangs up. */
function sent(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let answer = "";
    socket.setEncoding("latin1");
    socket.on("data", (data) => {
      answer += data;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(answer));
    socket.write(text, "latin1");
    socket.end();
  });
}
