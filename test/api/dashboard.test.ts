import { get } from "node:http";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import type { ApiServer } from "#stellium/api/server";
import { StatusBoard } from "#stellium/cluster/status/board";
import { StatusFeed } from "#stellium/cluster/status/feed";
import type { ClusterStatus } from "#stellium/cluster/status/schema";
import { FakeModel } from "./fakeModel.ts";
import { eventsOf, json, testApp, testServer } from "./harness.ts";

const served = new FakeModel();
const open = { allowedHosts: [], corsOrigins: [] };
const texts = ["/", "/dashboard.js", "/dashboard.css"];
const fonts = ["/newsreader-400.woff2", "/newsreader-600.woff2"];

describe("the dashboard's files", () => {
  const { get: ask } = testApp({ served, access: { ...open, apiKey: "secret" } });

  it("are small, and need no key", async () => {
    let bytes = 0;
    for (const path of fonts) bytes += (await (await ask(path)).arrayBuffer()).byteLength;
    for (const path of texts) {
      const response = await ask(path, { headers: { "accept-encoding": "gzip, br" } });
      expect([response.status, response.headers.get("content-encoding")]).toEqual([200, "gzip"]);
      const zipped = Buffer.from(await response.arrayBuffer());
      expect(gunzipSync(zipped).toString()).toBe(await (await ask(path)).text());
      bytes += zipped.length;
    }
    expect(bytes).toBeLessThan(100_000);
  });

  it("may load nothing from elsewhere, nor run what is not theirs", async () => {
    const response = await ask("/");
    const policy = response.headers.get("content-security-policy");
    expect(policy).toMatch(/default-src 'none'; script-src 'self'; style-src 'self';/);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    const page = await response.text();
    expect(page.match(/(?<=(?:src|href)=")[^"#]*/g)?.filter((link) => !link.startsWith("data:"))).toEqual([
      "/newsreader-400.woff2",
      "/dashboard.css",
      "/dashboard.js",
    ]);
  });

  it("say whether a key is needed", async () => {
    expect(await (await ask("/")).text()).toContain('data-key="needed"');
    expect(await (await testApp({ served }).get("/")).text()).toContain('data-key="none"');
  });

  it("are not sent again to who has them, and refused to who calls the server by a strange name", async () => {
    const tag = (await ask("/dashboard.js")).headers.get("etag")!;
    expect((await ask("/dashboard.js", { headers: { "if-none-match": tag } })).status).toBe(304);
    expect((await ask("/", { headers: { host: "evil.example" } })).status).toBe(403);
  });
});

describe("the status of the cluster", () => {
  let server: ApiServer | undefined;
  afterEach(async () => {
    await server?.close(0);
    server = undefined;
  });

  /** A feed that tells of a join line. */
  function secretive(): Pick<StatusFeed, "current" | "subscribe"> {
    const feed = new StatusFeed({ version: "0", board: new StatusBoard(), work: () => undefined });
    const join = {
      joined: 0,
      wanted: 1,
      local: false,
      address: "here:1",
      command: "stellium join here:1 --token secret",
    };
    const withJoin = (status: ClusterStatus) => ({ ...status, join });
    return {
      current: async () => withJoin(await feed.current()),
      subscribe: (listener) => feed.subscribe((status) => listener(withJoin(status))),
    };
  }

  async function command(url: string, headers: Record<string, string> = {}): Promise<unknown> {
    return (await json(fetch(`${url}/cluster`, { headers }))).join.command;
  }

  it("needs the key, and tells the token to a client that has it, but to no page of another origin", async () => {
    const access = { allowedHosts: [], corsOrigins: ["*"], apiKey: "secret" };
    server = await testServer({ served, status: secretive(), access });
    expect((await fetch(`${server.url}/cluster`)).status).toBe(401);
    expect((await fetch(`${server.url}/v1/cluster/events`)).status).toBe(401);
    const key = { "x-api-key": "secret" };
    expect(await command(server.url, key)).toMatch(/--token secret$/);
    expect(await command(server.url, { ...key, origin: server.url })).toMatch(/--token secret$/);
    expect(await command(server.url, { ...key, origin: "https://evil.example" })).toBeNull();
    expect(await command(server.url, { ...key, origin: "null" })).toBeNull();
  });

  it("tells nobody the token if there is no key: not this machine, not what a proxy sends, not a stream", async () => {
    server = await testServer({ served, status: secretive() });
    for (const headers of [{}, { origin: server.url }, { "x-api-key": "any" }, { "x-forwarded-for": "127.0.0.1" }])
      expect(await command(server.url, headers)).toBeNull();
    const reader = (await fetch(`${server.url}/cluster/events`)).body!.getReader();
    const first = new TextDecoder().decode((await reader.read()).value);
    expect(eventsOf(first)[0]!.data.join).toMatchObject({ address: "here:1", command: null });
    await reader.cancel();
  });

  it("does not pile up for a client that does not read it", async () => {
    const feed = new StatusFeed({ version: "0", board: new StatusBoard(), work: () => undefined });
    const told = await feed.current();
    const subscribe: StatusFeed["subscribe"] = (listener) => {
      for (let i = 0; i < 1000; i++) listener({ ...told, queued: i });
      return () => {};
    };
    const { get: ask } = testApp({ served, status: { current: async () => told, subscribe } });
    const reader = (await ask("/cluster/events")).body!.getReader();
    const events = eventsOf(new TextDecoder().decode((await reader.read()).value));
    expect(events.map(({ data }) => data.queued)).toEqual([0]);
    await reader.cancel();
  });

  it("is streamed as it changes, until the server ends", async () => {
    const board = new StatusBoard();
    const status = new StatusFeed({ version: "0", board, work: () => undefined });
    server = await testServer({ served, status });
    const { url } = server;
    const events = await new Promise<string>((resolve, reject) => {
      get(`${url}/cluster/events`, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => {
          const begun = text !== "";
          text += part;
          if (!begun) board.note("lost", "pi was lost", "pi");
          else if (text.includes("pi was lost")) void server!.close(5000);
        });
        response.on("end", () => resolve(text)).on("error", reject);
      }).on("error", reject);
    });
    expect(eventsOf(events).at(-1)?.data.events).toMatchObject([{ kind: "lost", device: "pi" }]);
  });
});
