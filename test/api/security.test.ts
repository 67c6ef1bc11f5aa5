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
