import { describe, expect, it } from "vitest";
import { isLoopback } from "#stellium/api/security";
import { FakeModel } from "./fakeModel.ts";
import { ask, json, testApp } from "./harness.ts";

const chat = "/v1/chat/completions";
const served = new FakeModel();
const open = { allowedHosts: [], corsOrigins: [] };

it.each([
  ["127.0.0.1", true],
  ["127.9.9.9", true],
  ["localhost", true],
  ["::1", true],
  ["[::1]", true],
  ["0.0.0.0", false],
  ["192.168.1.2", false],
  ["127.evil.example", false],
  ["::", false],
])("%s is loopback: %s", (host, expected) => expect(isLoopback(host)).toBe(expected));

describe("the key", () => {
  const { post, get } = testApp({ served, access: { ...open, apiKey: "secret" } });

  it.each([
    [{ authorization: "Bearer secret" }, 200],
    [{ authorization: "bearer secret" }, 200],
    [{ "x-api-key": "secret" }, 200],
    [{ authorization: "Bearer secre" }, 401],
    [{ authorization: "secret" }, 401],
    [{ authorization: "Bearer " }, 401],
    [{}, 401],
  ])("%j gives %i", async (headers, status) => {
    const response = await post(chat, ask("Hi"), { headers });
    expect(response.status).toBe(status);
    if (status === 401)
      expect((await json(response)).error).toMatchObject({ type: "authentication_error", code: "invalid_api_key" });
  });

  it("is not needed for health, but for everything else", async () => {
    expect((await get("/health")).status).toBe(200);
    for (const path of ["/v1/models", "/metrics", "/slots", "/props", "/nowhere"])
      expect((await get(path)).status).toBe(401);
  });

  it("may be anything where none is wanted", async () => {
    const headers = { authorization: "Bearer whatever" };
    expect((await testApp({ served }).post(chat, ask("Hi"), { headers })).status).toBe(200);
  });
});

describe("the name that the server is called by", () => {
  const { get } = testApp({ served, access: { ...open, allowedHosts: ["pi.local"] } });
  it.each([
    ["localhost:7710", 200],
    ["app.localhost", 200],
    ["127.0.0.1:7710", 200],
    ["192.168.1.20:7710", 200],
    ["[::1]:7710", 200],
    ["pi.local:7710", 200],
    ["PI.local", 200],
    ["evil.example:7710", 403],
    ["127.0.0.1.evil.example", 403],
    ["localhost.evil.example", 403],
    ["xpi.local", 403],
  ])("%s gives %i", async (host, status) => {
    expect((await get("/health", { headers: { host } })).status).toBe(status);
  });
});

describe("pages of other origins", () => {
  const origin = "https://chat.example";
  const host = "127.0.0.1:7710";

  it("are refused, without their work being done", async () => {
    const model = new FakeModel();
    const response = await testApp({ served: model }).post(chat, ask("Hi"), { headers: { origin, host } });
    expect([response.status, model.requests.length]).toEqual([403, 0]);
    expect(response.headers.get("access-control-allow-origin")).toBe(null);
  });

  it.each([[origin], ["*"]])("may come where %s is on the list", async (allowed) => {
    const { post, request } = testApp({ served, access: { ...open, apiKey: "k", corsOrigins: [allowed] } });
    const preflight = await request(chat, { method: "OPTIONS", headers: { origin, host } });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-headers")).toContain("Authorization");
    const headers = { origin, host, authorization: "Bearer k" };
    const response = await post(chat, ask("Hi"), { headers });
    expect([response.status, response.headers.get("access-control-allow-origin")]).toEqual([200, origin]);
    const refused = await post(chat, ask("Hi"), { headers: { origin, host } });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([401, origin]);
  });

  it("of the same origin are not others", async () => {
    const headers = { origin: `http://${host}`, host };
    expect((await testApp({ served }).post(chat, ask("Hi"), { headers })).status).toBe(200);
  });
});

describe("pages of other sites that name no origin", () => {
  const { request, post } = testApp({ served, access: { ...open, corsOrigins: ["https://chat.example"] } });
  const host = "127.0.0.1:7710";
  const link = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  const status = async (path: string, headers: Record<string, string>) =>
    (await request(path, { headers: { host, ...headers } })).status;

  it.each(["cross-site", "same-site"])("are refused (%s), without their work being done", async (site) => {
    const model = new FakeModel();
    const headers = { host, "sec-fetch-site": site };
    const response = await testApp({ served: model }).post(chat, ask("Hi"), { headers });
    expect([response.status, (await json(response)).error.code, model.requests.length]).toEqual([
      403,
      "site_refused",
      0,
    ]);
    for (const path of ["/health", "/v1/models", "/cluster", "/dashboard.js", "/"])
      expect([path, await status(path, { "sec-fetch-site": site, "sec-fetch-mode": "no-cors" })]).toEqual([path, 403]);
  });

  it("may link to the dashboard, but not to the API, and not show it in a frame", async () => {
    const headers = { "sec-fetch-site": "cross-site", ...link };
    expect(await status("/", headers)).toBe(200);
    expect(await status("/", { ...headers, "sec-fetch-dest": "iframe" })).toBe(403);
    for (const path of ["/v1/models", "/health", "/cluster"])
      expect([path, await status(path, headers)]).toEqual([path, 403]);
    expect((await post("/", {}, { headers: { host, ...headers } })).status).toBe(403);
  });

  it.each(["none", "same-origin"])(
    "do not include what the user opens or the dashboard asks (%s), nor programs",
    async (site) => {
      expect(await status("/v1/models", { "sec-fetch-site": site })).toBe(200);
      expect(await status("/v1/models", {})).toBe(200);
    },
  );

  it("do not include pages on the list, unless their origin contradicts their site", async () => {
    const headers = { host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", origin: "https://chat.example" };
    expect((await post(chat, ask("Hi"), { headers })).status).toBe(200);
    expect((await request(chat, { method: "OPTIONS", headers })).status).toBe(204);
    const strange = { ...headers, origin: `http://${host}` };
    expect((await post(chat, ask("Hi"), { headers: strange })).status).toBe(403);
  });
});

describe("every answer of the API", () => {
  const { request, post } = testApp({
    served,
    access: { ...open, apiKey: "secret", corsOrigins: ["https://a.example"] },
  });
  const key = { "x-api-key": "secret" };

  it.each<[string, () => Promise<Response>]>([
    ["JSON", () => request("/v1/models", { headers: key })],
    ["an answer", () => post(chat, ask("Hi"), { headers: key })],
    ["a stream", () => post(chat, ask("Hi", { stream: true }), { headers: key })],
    ["metrics", () => request("/metrics", { headers: key })],
    ["a missing key", () => request("/v1/models")],
    ["a missing path", () => request("/nowhere", { headers: key })],
    ["a wrong method", () => request("/v1/models", { method: "DELETE", headers: key })],
    ["a strange host", () => request("/health", { headers: { host: "evil.example" } })],
    ["a preflight", () => request(chat, { method: "OPTIONS", headers: { origin: "https://a.example" } })],
    ["the dashboard", () => request("/")],
  ])("is data for its own origin alone: %s", async (_, ask) => {
    const { headers, body } = await ask();
    await body?.cancel();
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("cross-origin-resource-policy")).toBe("same-origin");
    expect(headers.get("x-frame-options")).toBe("DENY");
    expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(headers.get("cache-control")).toMatch(/^no-(store|cache)$/);
  });
});
