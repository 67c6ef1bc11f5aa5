import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { openUrl } from "#stellium/weights/httpSource";

const content = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 2654435761) >>> 11);
const quick = { backoff: 1, attempts: 4, patience: 300 };

interface Asked {
  path: string;
  first: number;
  last: number;
}

type Answer = (asked: Asked, response: ServerResponse, request: IncomingMessage) => void;

const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** A server that answers each request as told. Returns its address, and what it was asked. */
async function serve(answer: Answer): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const wanted = { path: request.url!, first: Number(first), last: Number(last) };
    asked.push(wanted);
    answer(wanted, response, request);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.gguf`, asked };
}

function headers({ first, last }: Asked, more: Record<string, string> = {}) {
  return { "content-range": `bytes ${first}-${last}/${content.length}`, etag: '"one"', ...more };
}

/** What an honest server does. */
const honest: Answer = (asked, response) => {
  response.writeHead(206, { ...headers(asked), "content-length": asked.last - asked.first + 1 });
  response.end(content.subarray(asked.first, asked.last + 1));
};

/** Sends only `bytes` of what it announces, and hangs up. */
function cut(asked: Asked, response: ServerResponse, bytes: number): void {
  response.writeHead(206, { ...headers(asked), "content-length": asked.last - asked.first + 1 });
  response.write(content.subarray(asked.first, asked.first + bytes), () => response.destroy());
}

describe("an URL", () => {
  it("is read by ranges, and knows its size", async () => {
    const { url, asked } = await serve(honest);
    const source = await openUrl(url);
    expect([source.name, source.size]).toEqual([url, content.length]);
    expect(await source.read(1000, 70_000)).toEqual(content.slice(1000, 71_000));
    expect(await source.read(content.length, 0)).toEqual(new Uint8Array(0));
    expect(asked.map(({ first, last }) => [first, last])).toEqual([
      [0, 0],
      [1000, 70_999],
    ]);
    await expect(source.read(content.length - 1, 2)).rejects.toMatchObject({ code: "URL_UNREADABLE" });
    await source.close();
    await expect(source.read(0, 1)).rejects.toThrow("it was closed");
  });

  it("is taken up where a connection broke, however often it gets further", async () => {
    const { url, asked } = await serve((wanted, response) => {
      if (wanted.last - wanted.first < 70_000) honest(wanted, response, undefined as never);
      else cut(wanted, response, 66_000);
    });
    const source = await openUrl(url, { ...quick, attempts: 2 });
    expect(await source.read(0, content.length)).toEqual(content);
    expect(asked.map(({ first }) => first)).toEqual([0, 0, 66_000, 132_000, 198_000, 264_000]);
  });

  it("is given up where it does not get further", async () => {
    const { url, asked } = await serve((wanted, response) => {
      if (wanted.first === wanted.last) honest(wanted, response, undefined as never);
      else cut(wanted, response, 10);
    });
    const source = await openUrl(url, quick);
    await expect(source.read(0, 1000)).rejects.toThrow(/after 4 attempts/);
    expect(asked.length).toBe(5);
  });

  it("is tried again where a server is busy, or says nothing for too long", async () => {
    let requests = 0;
    const { url } = await serve((wanted, response, request) => {
      requests++;
      if (requests === 1) response.writeHead(503).end();
      else if (requests === 2) response.writeHead(429, { "retry-after": "0.01" }).end();
      else if (requests > 3) honest(wanted, response, request);
    });
    const source = await openUrl(url, quick);
    expect(await source.read(5, 5)).toEqual(content.slice(5, 10));
    expect(requests).toBe(5);
  });

  it.each<[string, Answer, string]>([
    ["that has no ranges", (_, response) => response.end(content), "does not answer Range requests"],
    ["that is not there", (_, response) => response.writeHead(404).end(), "its server answers 404"],
    ["that does not say what it sends", (_, response) => response.writeHead(206).end("x"), "does not say which bytes"],
    [
      "of unknown length",
      (asked, response) => response.writeHead(206, headers(asked, { "content-range": "bytes 0-0/*" })).end("x"),
      "does not say which bytes",
    ],
    [
      "that sends another range",
      (asked, response) => response.writeHead(206, headers({ ...asked, last: 5 })).end("123456"),
      "sends bytes 0-5/300000 where bytes 0-0 were asked for",
    ],
    [
      "that sends more than it says",
      (asked, response) => {
        response.writeHead(206, headers(asked));
        response.end("more than one byte");
      },
      "it sends more than it was asked for",
    ],
    [
      "that is compressed on the way",
      (asked, response) => response.writeHead(206, headers(asked, { "content-encoding": "br" })).end("x"),
      "it comes encoded as br",
    ],
    [
      "that goes in circles",
      (asked, response) => response.writeHead(302, { location: `${asked.path}x` }).end(),
      "it redirects more than 10 times",
    ],
    [
      "that leads into the file system",
      (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end(),
      "it redirects from http to file",
    ],
  ])("is refused: one %s", async (_, answer, reason) => {
    const { url } = await serve(answer);
    const error = await openUrl(url, quick).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "URL_UNREADABLE" });
    expect(error.message).toContain(reason);
  });

  it.each<[string, Record<string, string>, Partial<Asked>]>([
    ["ETag", { etag: '"two"' }, {}],
    ["length", { "content-range": "bytes 10-19/300001" }, {}],
  ])("is no longer read when its %s has changed", async (_, change) => {
    const { url } = await serve((wanted, response, request) => {
      if (wanted.first === 0) honest(wanted, response, request);
      else response.writeHead(206, headers(wanted, change)).end(content.subarray(10, 20));
    });
    const source = await openUrl(url, quick);
    await expect(source.read(10, 10)).rejects.toMatchObject({ code: "URL_CHANGED" });
  });

  it("is found behind redirects, whose target is asked directly until it expires", async () => {
    let expired = false;
    const { url, asked } = await serve((wanted, response, request) => {
      if (wanted.path === "/model.gguf") response.writeHead(302, { location: expired ? "/new" : "/old" }).end();
      else if (wanted.path === "/old" && expired) response.writeHead(403).end();
      else honest(wanted, response, request);
    });
    const source = await openUrl(url, quick);
    await source.read(0, 10);
    expired = true;
    expect(await source.read(0, 10)).toEqual(content.slice(0, 10));
    expect(asked.map(({ path }) => path)).toEqual(["/model.gguf", "/old", "/old", "/old", "/model.gguf", "/new"]);
  });

  it("is left alone on request, also between attempts", async () => {
    const { url } = await serve((_, response) => response.writeHead(503).end());
    const aborter = new AbortController();
    const opened = openUrl(url, { backoff: 60_000, signal: aborter.signal });
    setTimeout(() => aborter.abort(new Error("enough")), 50);
    await expect(opened).rejects.toMatchObject({ code: "ABORTED", message: expect.stringContaining("enough") });
  });

  it("that nobody serves is an error with the reason", async () => {
    const { url } = await serve(honest);
    servers.splice(0).forEach((server) => {
      server.close();
    });
    await expect(openUrl(url, quick)).rejects.toThrow(/ECONNREFUSED/);
    await expect(openUrl("no url", quick)).rejects.toMatchObject({ code: "URL_UNREADABLE" });
  });
});
