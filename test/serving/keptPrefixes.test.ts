import { appendFile, copyFile, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel, type TextModelOptions } from "#stellium/serving/textModel";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const texts = [
  "KING RICHARD III:\nNow is the winter of our discontent made glorious summer by this sun of York;\n",
  "JULIET:\nO Romeo, Romeo! wherefore art thou Romeo? Deny thy father and refuse thy name;\nAnd ",
  "First Citizen:\nBefore we proceed any further, hear me speak, you are all resolved rather to die",
];

/** All prompts begin with the same token. */
const common = 1;

let directory: string;
/** A file that a run with prefixes of all texts left. */
let left: string;
let files = 0;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-prefixes-"));
  left = join(directory, "left.prefixes");
  await using model = await start(left);
  for (const text of texts) await ask(model, text);
});
afterAll(() => rm(directory, { recursive: true }));

function start(prefixFile: string, options: Partial<TextModelOptions> = {}): Promise<TextModel> {
  return TextModel.open(demo, { threads: 1, context: 256, prefixBytes: 4e6, prefixFile, ...options });
}

/** Writes a few words, and tells how much of the prompt was known. */
async function ask(model: TextModel, text: string) {
  const prompt = await model.encodePrompt(text);
  const generation = model.generate({ prompt, maxTokens: 6, sampling: { ...defaultSampling, temperature: 0 } });
  let written = "";
  for (;;) {
    const { done, value } = await generation.next();
    if (done) return { written, cached: value.timings.cache_n, prompt: prompt.length };
    written += value.text;
  }
}

async function copy(): Promise<string> {
  const path = join(directory, `${files++}.prefixes`);
  await copyFile(left, path);
  return path;
}

/** Of each text, how much is known in a run that starts with a file, and what is said. */
async function knownWith(path: string, options: Partial<TextModelOptions> = {}) {
  const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    await using model = await start(path, options);
    const known = [];
    for (const text of texts) known.push(Math.max(0, (await ask(model, text)).cached - common));
    return { known, said: said.mock.calls.map(([line]) => String(line)).join("") };
  } finally {
    said.mockRestore();
  }
}

describe("a file of prefixes", () => {
  it("has a later run start from what an earlier one computed, with the same answers", async () => {
    await using fresh = await start(join(directory, "fresh.prefixes"));
    await using later = await start(await copy());
    for (const text of texts) {
      expect((await ask(fresh, text)).cached).toBeLessThanOrEqual(common);
      const [known, brought] = [await ask(fresh, text), await ask(later, text)];
      expect(brought.cached).toBe(brought.prompt - 1);
      expect(brought).toEqual(known);
    }
  });

  it("is for its owner's eyes only", async () => {
    if (process.platform !== "win32") expect((await stat(left)).mode & 0o777).toBe(0o600);
  });

  it("is taken as far as there is room, the latest first", async () => {
    const { known } = await knownWith(await copy(), { prefixBytes: 4e5 });
    expect(known.at(-1)).toBeGreaterThan(0);
    expect(known[0]).toBe(0);
  });

  it("leaves out prefixes that are damaged, and says so", async () => {
    const path = await copy();
    await using file = await open(path, "r+");
    await file.write(Uint8Array.of(255, 255, 255, 255), 0, 4, 1000);
    const { known, said } = await knownWith(path);
    expect(known.filter((cells) => cells === 0)).toHaveLength(1);
    expect(said).toMatch(/1 of 3 are damaged/);
  });

  it.each<[string, (path: string) => Promise<void>, Partial<TextModelOptions>]>([
    ["cut", (path) => truncate(path, 5000), {}],
    ["empty", (path) => truncate(path, 0), {}],
    ["followed by something else", (path) => appendFile(path, "!"), {}],
    ["of another type", async () => {}, { kvType: "f32" }],
    ["of another model", replaced(/"model":"[0-9a-f]{8}/, '"model":"00000000'), {}],
    ["nonsense", replaced(/"cellBytes":\d/, '"cellBytes":-'), {}],
    ["of places outside of it", replaced(/"offset":\d/g, '"offset":9'), {}],
  ])("is not used where it is %s, which is said", async (_, spoil, options) => {
    const path = await copy();
    await spoil(path);
    const { known, said } = await knownWith(path, options);
    expect(known).toEqual([0, 0, 0]);
    expect(said).toMatch(/kept prefixes are not used/);
  });

  it("is refused without memory for it, on a cluster, and where it cannot be written", async () => {
    await expect(start(left, { prefixBytes: 0 })).rejects.toMatchObject({ code: "BAD_USAGE" });
    await expect(start(left, { cluster: { workers: 1, local: true } as never })).rejects.toThrow(/one device alone/);
    await expect(start(join(directory, "no", "such.prefixes"))).rejects.toMatchObject({ code: "FILE_UNWRITABLE" });
  });
});

/** Replaces text of the same length. */
function replaced(what: RegExp, by: string): (path: string) => Promise<void> {
  return async (path) => {
    const content = (await readFile(path)).toString("latin1");
    expect(content).toMatch(what);
    await writeFile(path, Buffer.from(content.replace(what, by), "latin1"));
  };
}
