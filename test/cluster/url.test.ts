import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { CoordinatorOptions } from "#stellium/cluster/coordinator";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";
import { generateModel } from "../../bench/generateModel.mjs";
import { stellium } from "../cli/stellium.ts";
import { splitGguf } from "../weights/splitGguf.ts";

let folder: string;
let path: string;
let content: Buffer;
const servers: Server[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  path = join(folder, "model.gguf");
  // Large beside the 2 MiB in which headers are read.
  await generateModel({ path, shape: "tiny-llama", type: "F16", layers: 12, seed: 5 });
  content = readFileSync(path);
  const [first, second, third] = await splitGguf(path, content, 3);
  parts = { 1: first!, 2: second!, 3: third! };
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** Parts of the model, by number. */
let parts: Record<string, Buffer> = {};

interface Served {
  url: string;
  /** Bytes of bodies sent so far. */
  sent: number;
  etag: string;
  /** Called before each answer; may answer itself, and says so. */
  interfere: (response: ServerResponse, first: number, last: number) => boolean;
}

/** Serves the model by ranges. */
async function serve(): Promise<Served> {
  const served: Served = { url: "", sent: 0, etag: '"one"', interfere: () => false };
  const server = createServer((request, response) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "")!.map(Number) as [
      number,
      number,
      number,
    ];
    if (served.interfere(response, first, last)) return;
    served.sent += last + 1 - first;
    const file = parts[/-0000(\d)-of-/.exec(request.url!)?.[1] ?? ""] ?? content;
    const headers = { ...rangeHeaders(served, first, last), "content-range": `bytes ${first}-${last}/${file.length}` };
    response.writeHead(206, headers).end(file.subarray(first, last + 1));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  served.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.gguf`;
  return served;
}

function rangeHeaders({ etag }: Served, first: number, last: number) {
  return { "content-range": `bytes ${first}-${last}/${content.length}`, "content-length": last + 1 - first, etag };
}

let caches = 0;
/** Options of a start with a cache of its own. */
function options(
  workers: number,
  cacheDir = join(folder, `cache${caches++}`),
): CoordinatorOptions & { cacheDir: string } {
  const cluster =
    workers === 0 ? undefined : { workers, local: true, wire: "f32" as const, collective: "star" as const, cacheDir };
  return { threads: 1, context: 256, cacheDir, cluster };
}

async function write(model: TextModel): Promise<number[]> {
  const request = {
    prompt: [1, 2, 3, 4],
    maxTokens: 6,
    sampling: { ...defaultSampling, temperature: 0 },
    ignoreEos: true,
  };
  const tokens: number[] = [];
  for await (const { token } of model.generate(request)) tokens.push(token);
  return tokens;
}

const expected = new Map<number, Promise<number[]>>();

/** What so many workers and a coordinator write from the file. */
function writtenFromFile(workers: number): Promise<number[]> {
  const known = expected.get(workers) ?? writtenFrom(path, options(workers));
  expected.set(workers, known);
  return known;
}

async function writtenFrom(name: string, how: CoordinatorOptions): Promise<number[]> {
  await using model = await TextModel.open(name, how);
  return await write(model);
}

describe("a model behind an URL", () => {
  it("writes what it writes from a file, on one device, and is fetched once", async () => {
    const served = await serve();
    const how = options(0);
    const stored: number[] = [];
    const expected = await writtenFromFile(0);
    const onStored = (bytes: number) => stored.push(bytes);
    expect(await writtenFrom(served.url, { ...how, onStored } as CoordinatorOptions)).toEqual(expected);
    expect(stored).toHaveLength(1);
    expect(served.sent).toBeLessThan(1.2 * content.length);
    const before = served.sent;
    expect(await writtenFrom(served.url, { ...how, onStored } as CoordinatorOptions)).toEqual(expected);
    expect(stored).toHaveLength(1);
    // The header, and samples by which the model is known.
    expect(served.sent - before).toBeLessThan(0.15 * content.length);
  });

  it("is shared out by one that never stores it whole, at about its own length for four devices", async () => {
    const served = await serve();
    expect(await writtenFrom(served.url, options(3))).toEqual(await writtenFromFile(3));
    expect(served.sent).toBeLessThan(1.3 * content.length);
  });

  it("may be in parts", async () => {
    const served = await serve();
    const url = served.url.replace(".gguf", "-00002-of-00003.gguf");
    expect(await writtenFrom(url, options(1))).toEqual(await writtenFromFile(1));
  });

  it("is fetched in spite of cut connections", async () => {
    const served = await serve();
    let requests = 0;
    served.interfere = (response, first, last) => {
      if (last - first < 100_000 || requests++ % 12 !== 3) return false;
      response.writeHead(206, rangeHeaders(served, first, last));
      response.write(content.subarray(first, first + 70_000), () => response.destroy());
      return true;
    };
    expect(await writtenFrom(served.url, options(0))).toEqual(await writtenFromFile(0));
  });

  it("is taken up where an earlier start was stopped", async () => {
    const served = await serve();
    const how = options(0);
    const stopper = new AbortController();
    served.interfere = () => {
      if (served.sent > content.length / 2) stopper.abort("enough");
      return false;
    };
    await expect(writtenFrom(served.url, { ...how, signal: stopper.signal })).rejects.toMatchObject({
      code: "ABORTED",
    });
    served.interfere = () => false;
    const before = served.sent;
    await writtenFrom(served.url, how);
    expect(served.sent - before).toBeLessThan(0.8 * content.length);
  });

  it("that changes meanwhile is refused, by all devices", async () => {
    const served = await serve();
    served.interfere = () => {
      if (served.sent > content.length / 2) served.etag = '"two"';
      return false;
    };
    await expect(writtenFrom(served.url, options(2))).rejects.toThrow(/its ETag was "one" and is "two"/);
  });

  it("whose server knows no ranges, or is gone, is refused", async () => {
    const served = await serve();
    served.interfere = (response) => {
      response.writeHead(200).end(content);
      return true;
    };
    await expect(writtenFrom(served.url, options(0))).rejects.toMatchObject({
      code: "URL_UNREADABLE",
      message: expect.stringContaining("does not answer Range requests"),
    });
    served.interfere = (response) => {
      response.writeHead(404).end();
      return true;
    };
    await expect(writtenFrom(served.url, options(0))).rejects.toThrow(/answers 404/);
  });

  it("is shown, and planned for, by its header alone", async () => {
    const served = await serve();
    const { stdout, code } = await stellium(["show", served.url, "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      files: [{ path: served.url, bytes: content.length }],
      support: { supported: true },
    });
    const plan = await stellium(["plan", "-m", served.url, "--devices", "2", "--compute", "10GB", "--json"]);
    expect({ code: plan.code, path: JSON.parse(plan.stdout).model.path }).toEqual({ code: 0, path: served.url });
    expect(served.sent).toBeLessThan(5 * 2 ** 20);
  });

  it.each([
    ["http://example.com/model.gguf", "use https://"],
    ["http://8.8.8.8/model.gguf", "use https://"],
    ["https://name:word@example.com/model.gguf", "user name or password"],
    ["https://", "not a valid URL"],
  ])("is not read at %s", async (url, reason) => {
    await expect(TextModel.open(url)).rejects.toMatchObject({
      code: "BAD_USAGE",
      message: expect.stringContaining(reason),
    });
  });
});
