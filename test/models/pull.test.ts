import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PullProgress } from "#stellium/models/pull";
import { pullModel, type ResolveOptions, resolveModel } from "#stellium/models/resolveModel";
import { modelFile, sha256, splitModel } from "./hubFiles.ts";
import { begin, cutting, honest, MockHub, type Serve } from "./mockHub.ts";

const commit = "c".repeat(40);
const large = modelFile(4e6);
let hub: MockHub;
let directory: string;

beforeEach(async () => {
  hub = await MockHub.start();
  directory = await mkdtemp(join(tmpdir(), "stellium-models-"));
  hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large } };
});

afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const options = (more: ResolveOptions = {}): ResolveOptions => ({
  environment: hub.environment(directory),
  urlDirectory: join(directory, "urls"),
  backoff: 1,
  ...more,
});
const pull = (name: string, more?: ResolveOptions) => pullModel(name, options(more));
const resolve = (name: string, more?: ResolveOptions) => resolveModel(name, options(more));
const hashOf = async (path: string) => sha256(await readFile(path));
const cache = (...path: string[]) => join(directory, "hub", "models--user--repo", ...path);

/** The modes of all folders and of all files in a folder. */
async function modesOf(path: string): Promise<{ folders: number[]; files: number[] }> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const modes = async (kind: "isDirectory" | "isFile") => {
    const paths = entries.filter((entry) => entry[kind]()).map(({ parentPath, name }) => join(parentPath, name));
    return [...new Set(await Promise.all(paths.map(async (each) => (await stat(each)).mode & 0o777)))];
  };
  return { folders: await modes("isDirectory"), files: await modes("isFile") };
}

/** Waits until partial downloads of the repository have so many bytes. */
async function partialOf(bytes: number): Promise<void> {
  for (;;) {
    const entries = await readdir(cache("blobs")).catch(() => []);
    const part = entries.find((name) => name.endsWith(".part"));
    if (part !== undefined && (await stat(cache("blobs", part)).catch(() => ({ size: 0 }))).size >= bytes) return;
    await new Promise((tick) => setTimeout(tick, 5));
  }
}

describe("a model of a hub", () => {
  it("comes into the directory that Hugging Face's programs share, and is then found without the hub", async () => {
    const [file] = await pull("hf.co/user/repo:q4_k_m");
    expect(file).toBe(cache("snapshots", commit, "m-Q4_K_M.gguf"));
    expect(await hashOf(file!)).toBe(sha256(large));
    expect(await readdir(cache("blobs"))).toEqual([sha256(large)]);
    if (process.platform !== "win32") expect(await readlink(file!)).toBe(join("..", "..", "blobs", sha256(large)));
    expect(await readFile(cache("refs", "main"), "utf8")).toBe(commit);
    if (process.platform !== "win32") expect(await modesOf(cache())).toEqual({ folders: [0o700], files: [0o600] });
    hub.asked.length = 0;
    expect(await resolve("user/repo", { offline: true })).toBe(file);
    expect(await resolve("User/Repo:Q4_K_M")).toBe(file);
    expect(hub.asked).toEqual([]);
  });

  it("is taken as another program has fetched it", async () => {
    const blob = cache("blobs", "e".repeat(64));
    const name = cache("snapshots", commit, "sub", "m.Q8_0.gguf");
    await mkdir(cache("snapshots", commit, "sub"), { recursive: true });
    await mkdir(cache("blobs"));
    await writeFile(blob, large);
    await symlink(join("..", "..", "..", "blobs", "e".repeat(64)), name);
    expect(await resolve("user/repo:Q8_0", { offline: true })).toBe(name);
    expect(hub.asked).toEqual([]);
  });

  it("is fetched when it is resolved, and not again when it is pulled", async () => {
    await resolve("user/repo");
    const requests = hub.fetched.length;
    expect(await pull("user/repo")).toEqual([await resolve("user/repo")]);
    expect(hub.fetched.length).toBe(requests);
  });

  it("is of the newest commit after a pull, which fetches nothing that did not change", async () => {
    const other = modelFile(50_000, 7);
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large, "m-Q8_0.gguf": other } };
    await pull("user/repo:Q8_0");
    await pull("user/repo");
    const next = "d".repeat(40);
    hub.repositories["user/repo"] = { commit: next, files: { "m-Q4_K_M.gguf": large, "README.gguf.md": other } };
    const requests = hub.fetched.length;
    expect(await resolve("user/repo")).toContain(commit);
    expect(await pull("user/repo")).toEqual([cache("snapshots", next, "m-Q4_K_M.gguf")]);
    expect(await resolve("user/repo")).toContain(next);
    expect(hub.fetched.length).toBe(requests);
    // What only the older commit had is still there.
    expect(await resolve("user/repo:Q8_0", { offline: true })).toContain(commit);
  });

  it("comes in parts, some at the same time", async () => {
    const parts = splitModel("deep/m-Q4_K_M", 5, 200_000);
    hub.repositories["user/repo"] = { commit, files: { ...parts, "deep/m-Q8_0.gguf": large } };
    let [now, most] = [0, 0];
    hub.store = (response, bytes, asked, request) => {
      most = Math.max(most, ++now);
      response.on("close", () => now--);
      setTimeout(() => honest(response, bytes, asked, request), 20);
    };
    const told: PullProgress[] = [];
    const files = await pull("user/repo", { onProgress: (progress) => told.push(progress) });
    expect(files).toEqual(Object.keys(parts).map((path) => cache("snapshots", commit, ...path.split("/"))));
    expect(await Promise.all(files.map(hashOf))).toEqual(Object.values(parts).map(sha256));
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(3);
    const total = Object.values(parts).reduce((sum, { length }) => sum + length, 0);
    expect(told.at(-1)).toEqual({ bytes: total, total, fetched: total });
    expect(told.every(({ bytes }, i) => i === 0 || bytes >= told[i - 1]!.bytes)).toBe(true);
  });

  it("may be small enough for Git alone", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m.gguf": modelFile(5000) }, small: ["m.gguf"] };
    const [file] = await pull("user/repo");
    expect(await hashOf(file!)).toBe(sha256(modelFile(5000)));
  });

  it("is named by its address when only its header is wanted", async () => {
    expect(await resolve("user/repo", { headerOnly: true })).toBe(
      `${hub.url}/user/repo/resolve/${commit}/m-Q4_K_M.gguf`,
    );
    expect(hub.fetched).toEqual([]);
  });
});

describe("a download goes on", () => {
  it("after 50 connections that broke at random", async () => {
    let random = 12345;
    const below = (most: number) => {
      random = (Math.imul(random, 1103515245) + 12345) >>> 0;
      return Math.floor((random / 2 ** 32) * most);
    };
    let broken = 0;
    hub.store = cutting((left) => (broken++ < 50 ? Math.min(left - 1, 1 + below(150_000)) : left));
    const [file] = await pull("user/repo");
    expect(broken).toBe(51);
    expect(await hashOf(file!)).toBe(sha256(large));
  });

  it("after this process was stopped, from where it was", async () => {
    const stop = new AbortController();
    hub.store = (response, bytes, _, request) => {
      const piece = begin(response, bytes, request);
      if (piece.length === 1) response.end(piece);
      else response.write(piece.subarray(0, 1_500_000));
    };
    const stopped = pull("user/repo", { signal: stop.signal });
    await partialOf(1_000_000);
    stop.abort(new Error("enough"));
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED", message: expect.stringContaining("enough") });
    expect(await readdir(cache())).toEqual(["blobs"]);
    const [part = ""] = await readdir(cache("blobs"));
    const { size } = await stat(cache("blobs", part));
    hub.store = honest;
    hub.asked.length = 0;
    const told: PullProgress[] = [];
    await pull("user/repo", { onProgress: (progress) => told.push(progress) });
    expect(hub.fetched.map(({ first }) => first)).toEqual([0, size]);
    expect(told[0]).toEqual({ bytes: size, total: large.length, fetched: 0 });
    expect(told.at(-1)).toEqual({ bytes: large.length, total: large.length, fetched: large.length - size });
    expect(await readdir(cache("blobs"))).toEqual([sha256(large)]);
  });

  it("where a server ignores ranges, past what is there already", async () => {
    let requests = 0;
    hub.store = (response, bytes) => {
      response.writeHead(200, { "content-length": bytes.length });
      if (++requests === 2) response.write(bytes.subarray(0, 1_000_000), () => response.destroy());
      else response.end(bytes);
    };
    const [file] = await pull("user/repo");
    expect(await hashOf(file!)).toBe(sha256(large));
    expect(requests).toBe(3);
  });

  it("from the beginning, where what was there proves wrong", async () => {
    await pull("user/repo");
    await rm(cache("blobs", sha256(large)));
    const wrong = Buffer.from(large.subarray(0, 1000)).fill(7);
    await writeFile(cache("blobs", `${sha256(large)}.0-abc-01234567.part`), wrong);
    const [file] = await pull("user/repo");
    expect(await hashOf(file!)).toBe(sha256(large));
  });
});

describe("what is wrong is never used", () => {
  const code = async (work: Promise<unknown>) => await work.then(String, (error) => [error.code, error.message]);
  const lying = (change: (bytes: Buffer) => Buffer): Serve => {
    return (response, bytes, asked, request) => honest(response, change(bytes), asked, request);
  };

  afterEach(async () => {
    expect(await readdir(cache("snapshots")).catch(() => [])).toEqual([]);
    const blobs = await readdir(cache("blobs")).catch(() => []);
    expect(blobs.filter((name) => !name.endsWith(".part"))).toEqual([]);
    await expect(resolve("user/repo", { offline: true })).rejects.toMatchObject({ code: "MODEL_NOT_HERE" });
  });

  it("bytes of another hash", async () => {
    hub.store = lying((bytes) => Buffer.concat([bytes.subarray(0, -1), Buffer.of(bytes.at(-1)! ^ 1)]));
    const [found, message] = await code(pull("user/repo"));
    expect(found).toBe("DOWNLOAD_INVALID");
    expect(message).toMatch(/^user\/repo\/m-Q4_K_M\.gguf did not come as it should: its SHA-256 is [0-9a-f]{64} in/);
    expect(await readdir(cache("blobs"))).toEqual([]);
  });

  it.each([
    ["longer", (bytes: Buffer) => Buffer.concat([bytes, Buffer.of(0)]), "bytes in place of"],
    ["shorter", (bytes: Buffer) => bytes.subarray(0, -1), "bytes in place of"],
  ])("a file that is %s than the hub says", async (_, change, reason) => {
    hub.store = lying(change);
    const [found, message] = await code(pull("user/repo"));
    expect(found).toBe("DOWNLOAD_INVALID");
    expect(message).toContain(reason);
  });

  it("more bytes than were announced", async () => {
    hub.store = (response, bytes) => {
      response.writeHead(206, { "content-range": `bytes 0-0/${bytes.length}` });
      response.end(bytes);
    };
    expect(await code(pull("user/repo"))).toEqual([
      "URL_UNREADABLE",
      expect.stringContaining("it sends more than it was asked for"),
    ]);
  });

  it("a file that is no model", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m.gguf": Buffer.from("<html>no model</html>") } };
    expect((await code(pull("user/repo")))[0]).toBe("GGUF_INVALID");
    await rm(cache(), { recursive: true });
  });

  it.each([
    ["a file above its directory", { rfilename: "../../../../evil.gguf" }],
    ["an absolute path", { rfilename: "/etc/evil.gguf" }],
    ["a path of Windows", { rfilename: "C:\\evil.gguf" }],
    ["a device of Windows", { rfilename: "aux.gguf" }],
    ["control characters", { rfilename: "a\u001b[2J.gguf" }],
    ["a hash that is none", { lfs: { sha256: "../../../evil", size: 5 } }],
    ["a negative length", { lfs: { sha256: "a".repeat(64), size: -1 } }],
    ["a length beyond all disks", { lfs: { sha256: "a".repeat(64), size: 1e300 } }],
  ])("a listing with %s", async (_, change) => {
    const { files } = hub.repositories["user/repo"]!;
    const lie = (listing: { siblings: object[] }) => ({
      ...listing,
      siblings: [{ ...listing.siblings[0], ...change }],
    });
    hub.repositories["user/repo"] = { commit, files, lie };
    const [found, message] = await code(pull("user/repo"));
    expect(found).toBe("HUB_INVALID");
    expect(message).toMatch(/^http:\/\/127\.0\.0\.1:\d+ does not answer as a hub does: /);
    expect(await readdir(directory)).toEqual([]);
  });

  it("a commit that is none", async () => {
    const { files } = hub.repositories["user/repo"]!;
    hub.repositories["user/repo"] = { commit: "../../evil", files };
    expect((await code(pull("user/repo")))[0]).toBe("HUB_INVALID");
  });

  it("a listing that is no JSON, or has no end", async () => {
    hub.listingFailures.push((response) => response.end("<html>"));
    expect((await code(pull("user/repo")))[0]).toBe("HUB_INVALID");
    hub.listingFailures.push((response) => {
      const spaces = Buffer.alloc(2 ** 20, " ");
      const more = () => {
        while (!response.destroyed && response.write(spaces));
      };
      response.on("drain", more);
      more();
    });
    expect((await code(pull("user/repo")))[1]).toContain("it sends more than");
  });
});

describe("a refusal says what to do", () => {
  const refused = (work: Promise<unknown>) =>
    work.then(
      () => "",
      ({ code, message, hint }) => `${code}: ${message}. ${hint}`,
    );

  it("for a model that is not there", async () => {
    expect(await refused(pull("user/nothing"))).toMatch(
      /^MODEL_NOT_FOUND: there is no model user\/nothing at http.*Check the spelling.*HF_TOKEN/,
    );
  });

  it("for a gated one", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large }, gated: "secret" };
    expect(await refused(pull("user/repo"))).toMatch(/^MODEL_GATED: user\/repo .* at http.*\/user\/repo\. .*HF_TOKEN/);
    const environment = { ...hub.environment(directory), HF_TOKEN: "other" };
    expect(await refused(pull("user/repo", { environment }))).toMatch(/^MODEL_GATED/);
  });

  it("for a token that is not accepted", async () => {
    hub.listingFailures.push((response) => response.writeHead(401).end());
    const environment = { ...hub.environment(directory), HF_TOKEN: "expired" };
    expect(await refused(pull("user/repo", { environment }))).toMatch(/^HUB_TOKEN_REJECTED: .*Set HF_TOKEN/);
  });

  it("for a quantization that is not there, with those that are", async () => {
    const files = { "m-Q4_K_M.gguf": large, "m-Q8_0.gguf": large, "mmproj-F16.gguf": large, "README.md": large };
    hub.repositories["user/repo"] = { commit, files };
    expect(await refused(pull("user/repo:Q2_K"))).toContain(
      "QUANTIZATION_NOT_FOUND: user/repo has no Q2_K; it has Q4_K_M, Q8_0. ",
    );
    hub.repositories["user/repo"] = { commit, files: { "model.safetensors": large } };
    expect(await refused(pull("user/repo"))).toContain("user/repo has no GGUF file; it has no GGUF files.");
  });

  it("for a disk without room, with both numbers, before anything is fetched", async () => {
    const disk = { usable: async () => 3_000_000 };
    expect(await refused(pull("user/repo", { disk }))).toMatch(
      /^MODEL_DISK_FULL: there is no room for user\/repo:Q4_K_M at .*: it needs 0.004 GB more, and 0.003 GB may be used/,
    );
    expect(hub.fetched).toEqual([]);
    await writeFile(cache("blobs", `${sha256(large)}.0-abc-01234567.part`), large.subarray(0, 1_200_000));
    await pull("user/repo", { disk });
  });

  it("when offline", async () => {
    expect(await refused(resolve("user/repo", { offline: true }))).toMatch(/^MODEL_NOT_HERE: user\/repo .*--offline/);
    expect(await refused(resolve(`${hub.url}/files/m.gguf`, { offline: true }))).toMatch(/^MODEL_NOT_HERE/);
    const environment = { ...hub.environment(directory), HF_HUB_OFFLINE: "1" };
    expect(await refused(pull("user/repo", { environment }))).toMatch(/^MODEL_NOT_HERE/);
    expect(hub.asked).toEqual([]);
  });

  it("when the hub fails for too long, and not before", async () => {
    const busy = (status: number) => (response: import("node:http").ServerResponse) => response.writeHead(status).end();
    hub.listingFailures.push(busy(500), busy(429));
    expect(await refused(pull("user/repo"))).toBe("");
    hub.listingFailures.push(...[503, 503, 503, 503].map(busy));
    expect(await refused(pull("user/repo"))).toMatch(/^HUB_UNREACHABLE: cannot reach http.* answers 503 \(after 4/);
  });
});

describe("a token", () => {
  const secret = "hf_secret";

  it("is sent to the hub, and not to where that redirects to", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large }, private: secret };
    await pull("user/repo", { environment: { ...hub.environment(directory), HF_TOKEN: secret } });
    const sent = (where: string) =>
      new Set(hub.asked.filter((each) => each.where === where).map((each) => each.authorization));
    expect(sent("hub")).toEqual(new Set([`Bearer ${secret}`]));
    expect(sent("store")).toEqual(new Set([undefined]));
  });

  it("may be the one that Hugging Face's programs have stored", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large }, gated: secret };
    await writeFile(join(directory, "token"), `${secret}\n`);
    await pull("user/repo");
    expect(hub.asked[0]!.authorization).toBe(`Bearer ${secret}`);
  });
});

describe("an URL", () => {
  const url = () => `${hub.storeUrl}/user/repo/m-Q4_K_M.gguf`;

  it("stays one until it is pulled", async () => {
    expect(await resolve(url())).toBe(url());
    const [file] = await pull(url());
    expect(await hashOf(file!)).toBe(sha256(large));
    expect(await resolve(url(), { offline: true })).toBe(file);
    const requests = hub.fetched.length;
    await pull(url());
    // One request tells that nothing has changed.
    expect(hub.fetched.length).toBe(requests + 1);
  });

  it("is taken up where it ended, unless it has changed", async () => {
    hub.store = (response, bytes, _, request) => {
      const piece = begin(response, bytes, request);
      if (piece.length === 1) response.end(piece);
      else response.write(piece.subarray(0, 1_500_000));
    };
    const stop = new AbortController();
    const stopped = pull(url(), { signal: stop.signal, onProgress: ({ bytes }) => bytes >= 1_000_000 && stop.abort() });
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    const other = modelFile(3e6, 9);
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": other } };
    hub.store = honest;
    const [file] = await pull(url());
    expect(await hashOf(file!)).toBe(sha256(other));
  });

  it("may be of a model in parts", async () => {
    const parts = splitModel("m", 2, 50_000);
    hub.repositories["user/repo"] = { commit, files: parts };
    const files = await pull(`${hub.storeUrl}/user/repo/m-00002-of-00002.gguf`);
    expect(await Promise.all(files.map(hashOf))).toEqual(Object.values(parts).map(sha256));
  });

  it("of a file at the hub is pulled from there, and checked", async () => {
    const [file] = await pull(`${hub.url}/user/repo/blob/main/m-Q4_K_M.gguf`);
    expect(file).toBe(cache("snapshots", commit, "m-Q4_K_M.gguf"));
    expect(await resolve(`${hub.url}/user/repo/resolve/main/m-Q4_K_M.gguf`)).toBe(file);
  });

  it("is refused over the internet without TLS", async () => {
    await expect(pull("http://example.org/m.gguf")).rejects.toMatchObject({ code: "BAD_USAGE" });
  });
});
