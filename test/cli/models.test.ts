import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { modelFile, sha256 } from "../models/hubFiles.ts";
import { begin, honest, MockHub, type Serve } from "../models/mockHub.ts";
import { model, start, stellium, until } from "./stellium.ts";

const commit = "c".repeat(40);
const large = modelFile(6e6);
let hub: MockHub;
let directory: string;

beforeEach(async () => {
  hub = await MockHub.start();
  directory = await mkdtemp(join(tmpdir(), "stellium-models-"));
  hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large } };
});

afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const run = (...args: string[]) => stellium(args, { env: hub.environment(directory) });
const begun = (...args: string[]) => start(args, { env: hub.environment(directory) });
const blobs = () => join(directory, "hub", "models--user--repo", "blobs");
const shown = (path: string) => join(directory, "hub", "models--user--repo", "snapshots", commit, path);

/** Sends half of a file and then nothing. */
const half: Serve = (response, bytes, _, request) => {
  const piece = begin(response, bytes, request);
  if (piece.length === 1) response.end(piece);
  else response.write(piece.subarray(0, bytes.length / 2));
};

/** How many bytes of the file have come. */
async function partialBytes(): Promise<number> {
  const [entry] = (await readdir(blobs()).catch(() => [])).filter((name) => name.endsWith(".part"));
  return entry === undefined ? 0 : (await stat(join(blobs(), entry)).catch(() => ({ size: 0 }))).size;
}

async function untilHalf(): Promise<void> {
  while ((await partialBytes()) < large.length / 2) await new Promise((tick) => setTimeout(tick, 10));
}

describe("pull", () => {
  it("tells on stdout where the files are, and on stderr what it fetches", async () => {
    const { code, stdout, stderr } = await run("pull", "hf.co/user/repo");
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: `${shown("m-Q4_K_M.gguf")}\n`,
      stderr: "user/repo:Q4_K_M: 6 MB in m-Q4_K_M.gguf\n",
    });
    expect(JSON.parse((await run("pull", "user/repo", "--json")).stdout)).toEqual({
      model: "user/repo",
      files: [shown("m-Q4_K_M.gguf")],
    });
  });

  it("is ended by Ctrl-C, and goes on from there", async () => {
    hub.store = half;
    const { child, ended } = begun("pull", "user/repo");
    await untilHalf();
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, stdout: "" });
    expect((await run("ls")).stdout).toMatch(/^user\/repo {2}3 MB {2}incomplete\n0 models, 3 MB; /);
    hub.store = honest;
    hub.asked.length = 0;
    expect((await run("pull", "user/repo")).code).toBe(0);
    expect(Math.max(...hub.fetched.map(({ first }) => first))).toBeGreaterThanOrEqual(large.length / 2);
    expect(sha256(await readFile(shown("m-Q4_K_M.gguf")))).toBe(sha256(large));
  });

  it("by two processes fetches a model once", async () => {
    hub.store = (response, bytes, asked, request) => {
      const piece = begin(response, bytes, request);
      response.write(piece.subarray(0, piece.length / 2));
      setTimeout(
        () => response.end(piece.subarray(piece.length / 2)),
        asked.first === 0 && piece.length === 1 ? 0 : 500,
      );
    };
    const outcomes = await Promise.all([run("pull", "user/repo"), run("pull", "user/repo"), run("pull", "user/repo")]);
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
    // Each file is asked for its first byte, and then for all.
    expect(hub.fetched.length).toBe(2);
    expect(await readdir(blobs())).toEqual([sha256(large)]);
    expect(sha256(await readFile(shown("m-Q4_K_M.gguf")))).toBe(sha256(large));
  });

  it("goes on where another process was killed", async () => {
    hub.store = half;
    const { child, ended } = begun("pull", "user/repo");
    await untilHalf();
    const waiting = begun("pull", "user/repo");
    await until(() => hub.asked.filter(({ path }) => path.startsWith("/api/")).length === 2);
    hub.store = honest;
    child.kill("SIGKILL");
    await ended;
    expect((await waiting.ended).code).toBe(0);
    expect(hub.fetched.at(-1)!.first).toBe(large.length / 2);
    expect(await readdir(blobs())).toEqual([sha256(large)]);
  });

  it("refuses with one line", async () => {
    hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large }, gated: "secret" };
    expect(await run("pull", "user/repo")).toEqual({
      code: 1,
      signal: null,
      stdout: "",
      stderr: expect.stringMatching(/^user\/repo:Q4_K_M: .*\nstellium: user\/repo is for those .* set HF_TOKEN\.\n$/),
    });
    expect((await run("pull", "m.gguf")).stderr).toMatch(/^stellium: m\.gguf is a file, and nothing to fetch\./);
    expect((await run("pull")).code).toBe(2);
  });
});

describe("a model by its name", () => {
  beforeEach(async () => {
    hub.repositories["user/repo"] = { commit, files: { "tiny-Q8_0.gguf": await readFile(model) } };
  });

  it("is fetched by who runs it, once", async () => {
    const args = ["generate", "-m", "user/repo", "-p", "ROMEO:", "-n", "5"];
    const first = await run(...args);
    expect(first).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("user/repo:Q8_0: 5.12 MB in tiny-Q8_0.gguf"),
    });
    hub.asked.length = 0;
    const again = await run("generate", "-hf", "user/repo:q8_0", "--offline", "-p", "ROMEO:", "-n", "5");
    expect(again).toMatchObject({ code: 0, stdout: first.stdout });
    expect(hub.asked).toEqual([]);
  });

  it("is not there when offline", async () => {
    for (const args of [["run", "-p", "Hi"], ["generate"], ["show"], ["plan"]]) {
      const { code, stderr } = await run(args[0]!, "user/repo", ...args.slice(1), "--offline");
      expect(code).toBe(1);
      expect(stderr).toMatch(/^stellium: user\/repo is not on this device\. `stellium ls` lists/);
    }
    expect(hub.asked).toEqual([]);
  });

  it("is shown and planned from its header alone", async () => {
    const { stdout } = await run("show", "user/repo", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ architecture: "llama", support: { supported: true } });
    const planned = await run("plan", "-m", "user/repo", "--compute", "1GB/s", "--disk", "1GB/s", "--json");
    expect(planned.code).toBe(0);
    expect((await run("ls")).stdout).toMatch(/^no models in /);
  });

  it("may be gated", async () => {
    hub.repositories["user/repo"] = { ...hub.repositories["user/repo"]!, gated: "secret" };
    expect((await run("show", "user/repo")).stderr).toMatch(/^stellium: user\/repo is for those who/);
    const env = { ...hub.environment(directory), HF_TOKEN: "secret" };
    expect((await stellium(["show", "user/repo"], { env })).code).toBe(0);
  });
});
