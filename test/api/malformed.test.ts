import { connect } from "node:net";
import fc from "fast-check";
import { expect, it } from "vitest";
import { mostBodyBytes } from "#stellium/api/readBody";
import { faultOf, type MalformedRequest, malformedRequest } from "../../bench/apiFuzz/malformed.mjs";
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

it("bodies that are sent at once are bounded together", async () => {
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
  const refused = await app.post("/tokenize", content);
  expect([refused.status, (await json(refused)).error.code]).toEqual([429, "bodies_too_large"]);
  for (const end of ends) end();
  for (const response of await Promise.all(hanging)) expect(response.status).toBe(400);
  expect((await app.post("/tokenize", content)).status).toBe(200);
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
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
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
