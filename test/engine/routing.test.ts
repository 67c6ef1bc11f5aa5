import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { readRouting } from "#stellium/trace/readRouting";
import type { RoutingChoice, RoutingFacts } from "#stellium/trace/routing";
import { ModelFiles } from "./dense.ts";
import { engineDefaults, readReferences, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";
import { cutRanks, streamed } from "./slices.ts";

const files = new ModelFiles();
const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => {
  files[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const model = readReferences("moe").models.find(
  ({ generator }) => generator!.shape === "tiny-qwen3moe" && generator!.type === "F32",
)!;
const prompt = model.runs[0]!.prompt.slice(0, 12);
const next = model.runs[0]!.tokens.slice(0, 3);

/** Takes a prompt and some tokens, and returns the last logits. */
async function take(engine: Engine): Promise<Float32Array> {
  let logits = await engine.step({ tokens: prompt, position: 0, outputs: 1 });
  for (const [i, token] of next.entries()) {
    logits = await engine.step({ tokens: [token], position: prompt.length + i, outputs: 1 });
  }
  return logits.slice();
}

async function recorded(name: string, run: (options: EngineOptions) => Promise<Float32Array>) {
  const path = join(folder, name);
  const logits = await run({ ...engineDefaults, recordRouting: path });
  const choices: RoutingChoice[] = [];
  let facts: RoutingFacts | undefined;
  await readRouting(path, (head) => {
    facts = head;
    return (choice) => choices.push(choice);
  });
  return { logits, facts: facts!, choices };
}

/** All ids of each layer: several ranks take a prompt in two parts, which leapfrog. */
function byLayer(choices: readonly RoutingChoice[]): Map<number, number[]> {
  const ids = new Map<number, number[]>();
  for (const choice of choices) ids.set(choice.layer, [...(ids.get(choice.layer) ?? []), ...Array.from(choice.ids)]);
  return ids;
}

const resident = async (path: string) =>
  await recorded("resident", async (options) => {
    await using engine = await startEngine(path, options);
    return await take(engine);
  });

describe("an engine takes down which experts tokens get", () => {
  it("of all tokens in all layers, without changing what it says", async () => {
    const { path } = await files.make(model);
    await using plain = await startEngine(path, engineDefaults);
    const expected = await take(plain);
    const { logits, facts, choices } = await resident(path);
    for (const [i, value] of logits.entries()) expect(value).toBeCloseTo(expected[i]!, 4);
    const tokens = new Map(facts.layers.map((layer) => [layer, 0]));
    for (const { layer, ids } of choices) {
      const each = Array.from({ length: ids.length / facts.used }, (_, token) =>
        Array.from(ids).slice(token * facts.used, (token + 1) * facts.used),
      );
      for (const own of each) expect(new Set(own).size).toBe(facts.used);
      tokens.set(layer, tokens.get(layer)! + each.length);
    }
    // Where nothing comes after the last layer but the head, only the last token of a prompt gets there.
    const last = facts.layers.at(-1)!;
    for (const [layer, count] of tokens) expect(count).toBe((layer === last ? 1 : prompt.length) + next.length);
  });

  it("and takes down the same with room for some of them, and on one of several ranks", async () => {
    const { path } = await files.make(model);
    const { choices } = await resident(path);
    const pooled = await recorded("pooled", async (options) => {
      const [cut] = await cutRanks(path, [1], folder);
      const origin = await streamed(cut!, 2, () => true, 0.3);
      await using engine = await Engine.start({ description: cut!.description, options, origin });
      const logits = await take(engine);
      const { expertBytes, expertMisses, expertsReadAhead, decodedTokens, decodedExpertBytes } = engine.statistics;
      expect(decodedTokens).toBe(next.length);
      expect(decodedExpertBytes).toBeGreaterThan(0);
      expect(decodedExpertBytes).toBeLessThan(expertBytes);
      // Also those that were read ahead and not used.
      expect(expertBytes).toBeGreaterThan(expertMisses);
      expect(expertsReadAhead).toBeGreaterThan(0);
      expect(expertsReadAhead).toBeLessThan(expertMisses);
      return logits;
    });
    const ranks = await recorded("ranks", async (options) => {
      await using group = await Ranks.start(path, [3, 1], (rank) => (rank === 0 ? options : engineDefaults));
      return await take(group.first);
    });
    expect(byLayer(pooled.choices)).toEqual(byLayer(choices));
    expect(byLayer(ranks.choices)).toEqual(byLayer(choices));
  });
});
