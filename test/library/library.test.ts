import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import {
  generate,
  type JoinedState,
  join,
  type LoadProgress,
  loadModel,
  type Model,
  plan,
  pull,
  serve,
} from "#stellium/index";
import { model as path } from "../cli/stellium.ts";
import { modelFile } from "../models/hubFiles.ts";
import { MockHub } from "../models/mockHub.ts";

const greedy = { temperature: 0 };
const usage = (detail: string) =>
  expect.objectContaining({ code: "BAD_USAGE", message: expect.stringContaining(detail) });

async function pieces(writing: AsyncIterable<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const piece of writing) all.push(piece);
  return all;
}

describe("generate", () => {
  it("loads a model, gives the text as it comes, and then how it ended", async () => {
    const progress: LoadProgress[] = [];
    const onProgress = (each: LoadProgress) => progress.push(each);
    const story = generate({ model: path, prompt: "ROMEO:", maxTokens: 12, threads: 1, ...greedy, onProgress });
    expect(story.result).toBeUndefined();
    const all = await pieces(story);
    expect(all.length).toBeGreaterThan(5);
    expect(story.result).toMatchObject({ finishReason: "length", timings: { predicted_n: 12 } });
    expect(progress.at(-1)).toMatchObject({ phase: "loading" });
    await expect(pieces(story)).rejects.toEqual(usage("a text is iterated once"));
    const again = generate({ model: path, prompt: "ROMEO:", maxTokens: 12, threads: 1, ...greedy });
    expect(await again.text()).toBe(all.join(""));
  });

  it("ends where its reader stops, or its signal says so, also before it has begun", async () => {
    const stop = new AbortController();
    const endless = { model: path, prompt: "", threads: 1, context: 256 };
    for await (const piece of generate(endless)) if (piece !== "") break;
    const stopped = generate({ ...endless, signal: stop.signal });
    await expect(
      (async () => {
        for await (const piece of stopped) if (piece !== "") stop.abort("enough");
      })(),
    ).rejects.toMatchObject({ code: "ABORTED", message: expect.stringContaining("enough") });
    await expect(generate({ ...endless, signal: stop.signal }).text()).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("fails when it is iterated where there is no such model", async () => {
    await expect(generate({ model: "nowhere.gguf", prompt: "" }).text()).rejects.toMatchObject({
      code: "FILE_UNREADABLE",
    });
  });

  it.each([
    [{ maxTokens: 0 }, "options.maxTokens"],
    [{ maxTokens: 1.5 }, "options.maxTokens"],
    [{ maxTokns: 5 }, "maxTokns"],
    [{ stop: "end" }, "options.stop"],
    [{ temperature: "hot" }, "options.temperature"],
    [{ context: -1 }, "options.context"],
    [{ memory: Number.NaN }, "options.memory"],
    [{ model: "" }, "options.model"],
    [{ prompt: undefined }, "options.prompt"],
    [{ signal: {} }, "options.signal"],
    [{ cluster: { workers: 0 } }, "options.cluster.workers"],
    [{ cluster: { workers: 1, lokal: true } }, "options.cluster"],
    [{ logitBias: {} }, "options.logitBias"],
  ])("refuses %j at once", (wrong, detail) => {
    expect(() => generate({ model: path, prompt: "", ...(wrong as object) })).toThrow(usage(detail));
  });
});

describe("a loaded model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(path, { threads: 1, parallel: 3, context: 256 });
  });
  afterAll(() => model.close());

  it("tells what it is", () => {
    expect([model.file, model.context]).toEqual(["stellium-shakespeare-5m-q8_0.gguf", 256]);
    expect(model.tokenize("ROMEO:").length).toBeGreaterThan(0);
  });

  it("writes several texts at a time", async () => {
    const write = (prompt: string) => model.generate(prompt, { maxTokens: 20, seed: 5 }).text();
    const texts = await Promise.all(["ROMEO:", "JULIET:", "KING:", "ROMEO:", "DUKE:"].map(write));
    expect(texts.every((text) => text.length > 20)).toBe(true);
  });

  it("answers, and names of control tokens do not end what a person says", async () => {
    const answer = model.chat([{ role: "user", content: "Speak.<|im_end|>" }], { maxTokens: 10, ...greedy });
    expect((await answer.text()).length).toBeGreaterThan(0);
    expect(() => model.chat([])).toThrow(usage("messages"));
    expect(() => model.chat([{ role: "user", content: 5 as never }])).toThrow(usage("messages.0.content"));
  });

  it("keeps to a JSON schema or a grammar", async () => {
    const jsonSchema = { type: "object", properties: { age: { enum: [1, 22] } }, required: ["age"] };
    const written = await model
      .generate("ROMEO:", { jsonSchema: { ...jsonSchema, additionalProperties: false } })
      .text();
    expect([1, 22]).toContain(JSON.parse(written).age);
    expect(await model.generate("ROMEO:", { grammar: 'root ::= "yes" | "no"' }).text()).toMatch(/^(yes|no)$/);
    const both = model.generate("", { jsonSchema, grammar: 'root ::= "a"' });
    await expect(both.text()).rejects.toEqual(usage("grammar and jsonSchema were both given"));
  });

  it("embeds texts", async () => {
    const vector = await model.embed("To be, or not to be");
    expect(Math.hypot(...vector)).toBeCloseTo(1, 4);
  });

  it("is closed once, and then ends what is asked of it", async () => {
    const closed = await loadModel(path, { threads: 1 });
    const aborted = { code: "ABORTED" };
    const writing = expect(closed.generate("ROMEO:").text()).rejects.toMatchObject(aborted);
    await Promise.all([closed.close(), closed.close(), writing]);
    await expect(closed.generate("ROMEO:").text()).rejects.toMatchObject(aborted);
    await expect(closed.embed("ROMEO:")).rejects.toMatchObject(aborted);
    expect(() => closed.tokenize("ROMEO:")).toThrow(expect.objectContaining(aborted));
  });
});

it("predicts what devices would hold", async () => {
  const wanted = { model: path, devices: 2, shares: [3, 1], compute: [1e9], disk: [1e9], promptTokens: 64 };
  const foretold = await plan(wanted);
  expect(foretold).toMatchObject({ fits: true, sources: { compute: "given", link: "assumed" } });
  expect(foretold.devices.map(({ shares }) => shares.attention > 0)).toEqual([true, true]);
  expect((await plan({ ...wanted, memory: [1e7] })).fits).toBe(false);
  await expect(plan({ ...wanted, memory: [] })).rejects.toEqual(usage("options.memory"));
  await expect(plan({ ...wanted, shares: [1, 2, 3] })).rejects.toMatchObject({ code: "SHARES_INVALID" });
});

describe("devices that join", () => {
  let cacheDir: string;
  beforeAll(async () => {
    cacheDir = await mkdtemp(joinPath(tmpdir(), "stellium-library-"));
  });
  afterAll(() => rm(cacheDir, { recursive: true }));

  it("share a model, until their signal says otherwise", async () => {
    const leave = new AbortController();
    const states: JoinedState["state"][] = [];
    let joined: Promise<void> | undefined;
    const model = await loadModel(path, {
      threads: 1,
      cacheDir,
      cluster: {
        workers: 1,
        listen: "127.0.0.1:0",
        onJoin: ({ address, token }) => {
          const { signal } = leave;
          joined ??= join({ address, token, threads: 1, cacheDir, signal, onState: ({ state }) => states.push(state) });
        },
      },
    });
    const text = await model.generate("ROMEO:", { maxTokens: 8, ...greedy }).text();
    expect(text.length).toBeGreaterThan(8);
    expect(states).toEqual(expect.arrayContaining(["connecting", "connected", "joined", "loading", "ready"]));
    leave.abort();
    await joined;
    await model.close();
  });

  it("are told what is wrong", async () => {
    const signal = new AbortController().signal;
    await expect(join({ token: "short", address: "127.0.0.1:1", signal })).rejects.toEqual(usage("16"));
    const nowhere = { token: "long enough for one", address: "nowhere", cacheDir, signal };
    await expect(join(nowhere)).rejects.toEqual(usage("nowhere"));
    await expect(join({ token: "long enough for one" } as never)).rejects.toEqual(usage("options.signal"));
  });
});

describe("serve", () => {
  it("answers OpenAI's clients, and ends", async () => {
    const server = await serve({ model: path, port: 0, threads: 1, name: "bard", sampling: greedy });
    const { data } = (await (await fetch(`${server.baseUrl}/models`)).json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(["bard"]);
    const body = JSON.stringify({ messages: [{ role: "user", content: "Speak." }], max_tokens: 5 });
    const answer = await fetch(`${server.baseUrl}/chat/completions`, { method: "POST", body });
    expect(await answer.json()).toMatchObject({ choices: [{ message: { role: "assistant" } }] });
    await server.close();
    await expect(fetch(`${server.baseUrl}/models`)).rejects.toThrow();
  });

  it("is not for everyone unless that is said, and leaves nothing behind where it fails", async () => {
    await expect(serve({ model: path, host: "0.0.0.0" })).rejects.toEqual(usage("others can reach 0.0.0.0"));
    await expect(serve({ model: path, sampling: { topP: 2 } })).rejects.toEqual(usage("topP"));
    await expect(serve({ model: "nowhere.gguf", port: 0 })).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
  });
});

describe("pull", () => {
  afterEach(() => vi.unstubAllEnvs());

  it("fetches a model, which its name then means", async () => {
    await using hub = await MockHub.start();
    const directory = await mkdtemp(joinPath(tmpdir(), "stellium-library-"));
    for (const [name, value] of Object.entries(hub.environment(directory))) vi.stubEnv(name, value);
    hub.repositories["user/repo"] = { commit: "c".repeat(40), files: { "m.gguf": modelFile(5000) } };
    const told: number[] = [];
    const [file] = await pull("user/repo", { onProgress: ({ bytes }) => told.push(bytes) });
    expect(file).toMatch(/m\.gguf$/);
    expect(told.at(-1)).toBe(modelFile(5000).length);
    // It is no language model.
    await expect(loadModel("user/repo", { offline: true })).rejects.toMatchObject({ code: "MODEL_UNSUPPORTED" });
    await expect(pull("user/nothing")).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
    await expect(pull("m.gguf")).rejects.toEqual(usage("is a file"));
    await rm(directory, { recursive: true });
  });
});
