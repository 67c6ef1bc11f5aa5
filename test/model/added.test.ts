import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import type { ModelDescription } from "#stellium/model/describeModel";
import { describe as describeModelFile } from "#stellium/model/support";
import { cpuVariants } from "#stellium/native/cpuVariant";
import { cpuVariantName, nativeDirectory } from "#stellium/native/libraries";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { generateModel, shapes } from "../../bench/generateModel.mjs";
import { freePort, start, stellium } from "../cli/stellium.ts";
import { engineDefaults, startEngine } from "../engine/oracle.ts";
import { Ranks } from "../engine/ranks.ts";
import { cutDescribed, streamedRanks } from "../engine/slices.ts";
import { agreedExperts, alikeExperts, coarseExperts } from "./added/chosen.ts";
import { ExtendedTree } from "./extendedTree.ts";
import { described, exact, followsPlain, text } from "./followsPlain.ts";
import { PlainExperts } from "./plainExperts.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
const tree = new ExtendedTree();
afterAll(() => {
  tree[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const list = ["model/architectures.ts", "export const architectures: readonly Architecture[] = ["] as const;
let engine: typeof Engine;
let describeExtended: typeof describeModelFile;

beforeAll(async () => {
  const source = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
  // As the first step of docs/extending.md says: a file of facts, and an entry in the list.
  const xverse = source("../../src/model/architectures/qwen3.ts").replaceAll("qwen3", "xverse");
  tree.write("model/architectures/xverse.ts", xverse);
  tree.write("model/blocks/chosen.ts", source("added/chosen.ts"));
  tree.addEntry("model/blocks/definitions.ts", "const definitions: Definitions = {", {
    name: "chosen",
    from: "./chosen.ts",
  });
  tree.addEntry(...list, { name: "xverse", from: "./architectures/xverse.ts" });
  for (const name of ["alikeExperts", "agreedExperts", "coarseExperts"])
    tree.addEntry(...list, { name, from: "./blocks/chosen.ts" });
  tree.joinThreads();
  ({ Engine: engine } = await tree.import<{ Engine: typeof Engine }>("engine/engine.js"));
  ({ describe: describeExtended } = await tree.import<{ describe: typeof describeModelFile }>("model/support.js"));
});

describe("an architecture that is added as docs/extending.md says", () => {
  const facts = { ...shapes["tiny-qwen3"]!, layers: 2 };
  const options: EngineOptions = { ...engineDefaults, context: 64, batch: 64 };
  const tokens = Array.from({ length: 20 }, (_, i) => (i * 37 + 11) % 500);

  it("runs, and says what its facts say", async () => {
    const path = join(folder, "xverse.gguf");
    Object.assign(shapes, { "tiny-xverse": { ...facts, architecture: "xverse" }, "two-layers": facts });
    await generateModel({ shape: "tiny-xverse", type: "Q8_0", path });
    const model = await readGguf(path);
    expect(() => describeModelFile(model)).toThrow("its architecture xverse is not one of those that run");
    const whole = describeExtended(model);
    const description = rankDescription(whole, planShares(whole, [1]), 0);
    await using xverse = await engine.start({ description, options });
    const logits = Float32Array.from(await xverse.step({ tokens, position: 0, outputs: 1 }));
    await generateModel({ shape: "two-layers", type: "Q8_0", path });
    await using qwen3 = await startEngine(path, options);
    expect(logits).toEqual(await qwen3.step({ tokens, position: 0, outputs: 1 }));
  });
});

/** Logits of two tokens that differ by no more, either of which may be written: what is added up travels as f16. */
const nearTie = 0.05;

describe.each([
  ["each rank by itself", alikeExperts, false],
  ["each rank by itself, though it comes to something else,", coarseExperts, true],
  ["after all agreed on the router's values", agreedExperts, false],
])("a kind of block that chooses what it computes, %s,", (_, { name }, tied) => {
  const path = join(folder, `${name}.gguf`);
  const plain = new PlainExperts(name, tied);
  let expected: number[][];
  let whole: ModelDescription;

  beforeAll(async () => {
    plain.write(path);
    expected = plain.logits(text);
    whole = describeExtended(await readGguf(path));
  });

  it.each(["whole", "block"] as const)("runs on one device, by graphs of %s", async (graphs) => {
    await using one = await engine.start({ ...described(whole, [1])[0]!, options: { ...exact, graphs } });
    await followsPlain(one, expected);
  });

  it.each([[[3, 1]], [[1, 2, 1]], [[1, 0]]])("runs on ranks with shares %j", async (shares) => {
    await using ranks = await Ranks.of(described(whole, shares), exact, { wire: "q8_0" }, engine);
    const { collectives } = ranks.first.statistics;
    await ranks.first.step({ tokens: text.slice(0, 20), position: 0, outputs: 1 });
    const taken = ranks.first.statistics.collectives - collectives;
    // Two broadcasts, and in each layer sums of attention and experts, and one of what they agree on.
    const once = 2 + 3 * (name === agreedExperts.name ? 3 : 2);
    // If they do not come to the same, all is done again, with broadcasts of ids and weights in each layer.
    if (tied && !shares.includes(0)) expect(taken).toBeGreaterThan(once + 3 * 2);
    else expect(taken).toBe(once);
    await ranks.unlink();
    await ranks.link({ wire: "f32" });
    await followsPlain(ranks.first, expected);
  });

  it.each([[[1]], [[2, 1]], [[1, 1, 2]]])("is streamed on ranks with shares %j", async (shares) => {
    const cut = await cutDescribed(whole, shares, folder);
    await using ranks = await Ranks.of(await streamedRanks(cut, 2), { ...exact, graphs: "block" }, {}, engine);
    expect(ranks.first.statistics.windowBytes).toBeGreaterThan(0);
    await followsPlain(ranks.first, expected);
  });

  if (!tied) return;

  it("is stopped at any time, and goes on", async () => {
    await using ranks = await Ranks.of(described(whole, [1, 1]), exact, {}, engine);
    for (let turns = 0; turns < 12; turns++) {
      const stop = new AbortController();
      const step = ranks.first.step({ tokens: text, position: 0, outputs: 1 }, stop.signal);
      const ended = step.then(
        () => "ABORTED",
        ({ code }) => code,
      );
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      stop.abort();
      expect(await ended).toBe("ABORTED");
    }
    await followsPlain(ranks.first, expected);
  });
});

describe("the command line, on two devices, writes with a kind of block that chooses what it computes", () => {
  const main = join(tree.folder, "dist/cli/main.js");
  const options = ["--shares", "2,1", "--kv", "f32", "-c", "128", "--ignore-eos", "--json", "--cache-dir", folder];

  /** Checks what is written, and returns how many passes and collectives that takes. */
  async function followsPlain(plain: PlainExperts, devices: readonly string[], env: Record<string, string> = {}) {
    const path = join(folder, "written.gguf");
    plain.write(path);
    const args = ["generate", "-m", path, "-p", "a b c", "-n", "8", ...options, ...devices];
    const { code, stdout, stderr } = await stellium(args, { main, env });
    expect(code, stderr).toBe(0);
    const { prompt_tokens, tokens, devices: ranks } = JSON.parse(stdout) as Written;
    const written = [...prompt_tokens];
    for (const token of tokens) {
      const logits = plain.logits(written).at(-1)!;
      expect(Math.max(...logits) - logits[token]!).toBeLessThan(nearTie);
      written.push(token);
    }
    return { passes: tokens.length, collectives: ranks[0]!.collective_count };
  }

  it.each([alikeExperts, agreedExperts])("($name)", async ({ name }) => {
    await followsPlain(new PlainExperts(name), ["--devices", "2"]);
  });

  it("whose CPUs round differently", async () => {
    const port = await freePort();
    const token = { STELLIUM_TOKEN: "a token of these tests" };
    const directory = nativeDirectory();
    const plainest = cpuVariants({ directory, files: readdirSync(directory) }).find(({ name }) => name === "x64");
    const env = plainest ? { ...token, STELLIUM_CPU: plainest.name } : token;
    const joining = start(["join", `127.0.0.1:${port}`, "--cache-dir", folder], { main, env });
    const cluster = ["--workers", "1", "--listen", `127.0.0.1:${port}`];
    const { passes, collectives } = await followsPlain(new PlainExperts(alikeExperts.name, true), cluster, token);
    joining.child.kill();
    await joining.ended;
    const once = passes * (2 + 3 * 2);
    if (plainest === undefined || plainest.name === cpuVariantName()) expect(collectives).toBe(once);
    else expect(collectives).toBeGreaterThan(once);
  });
});

interface Written {
  readonly prompt_tokens: number[];
  readonly tokens: number[];
  readonly devices: { readonly collective_count: number }[];
}

it("nothing was changed for these but the folder of models", () => {
  expect([...tree.sources.keys()].every((path) => path.startsWith("model/"))).toBe(true);
});
