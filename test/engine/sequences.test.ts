import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Embedding } from "#stellium/engine/embedding";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import type { StepRequest } from "#stellium/engine/stepRequest";
import { openGgml } from "#stellium/native/ggml";
import { readGguf } from "#stellium/weights/gguf/reader";
import { distance, engineDefaults, logSoftmax, roundingDistance, startEngine } from "./oracle.ts";
import { Ranks } from "./ranks.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const options: EngineOptions = { ...engineDefaults, slots: 4, outputs: 4, storedCells: 300 };
/** Sequences of other lengths: one beyond the first 256 cells, one of a token. */
const scripts = [290, 40, 1, 7].map((length, s) => Array.from({ length }, (_, i) => (i * 37 + 11 + 101 * s) % 1000));
const continued = 6;

/** The token that a sequence goes on with at a position behind its prompt. */
function next(script: number, i: number): number {
  return (script * 53 + i * 29) % 1000;
}

/** Logits behind a sequence's prompt and behind each token that follows, by itself. */
async function alone(engine: Engine, script: number, slot = 0): Promise<Float32Array[]> {
  const tokens = scripts[script]!;
  const rows = [Float32Array.from(await engine.step({ tokens, position: 0, outputs: 1, slot }))];
  for (let i = 0; i < continued; i++) {
    const position = tokens.length + i;
    rows.push(Float32Array.from(await engine.step({ tokens: [next(script, i)], position, outputs: 1, slot })));
  }
  return rows;
}

/** The same for all sequences, side by side: prompts in pieces, among tokens of those whose prompts are done. */
async function together(engine: Engine, piece: number): Promise<Float32Array[][]> {
  const rows: Float32Array[][] = scripts.map(() => []);
  const done = scripts.map(() => 0);
  const { vocabularySize } = engine.description.hyperparameters;
  for (;;) {
    const parts = scripts.flatMap((script, slot) => partOf(script, slot, done[slot]!, piece));
    if (parts.length === 0) return rows;
    const results = await engine.step(parts);
    const asking = parts.filter(({ outputs }) => outputs > 0);
    asking.forEach(({ slot }, i) => {
      rows[slot!]!.push(results.slice(i * vocabularySize, (i + 1) * vocabularySize));
    });
    for (const { slot, tokens } of parts) done[slot!]! += tokens.length;
  }
}

function partOf(script: number[], slot: number, position: number, piece: number): StepRequest[] {
  if (position >= script.length + continued) return [];
  if (position >= script.length) {
    return [{ slot, position, tokens: [next(slot, position - script.length)], outputs: 1 }];
  }
  const tokens = script.slice(position, position + piece);
  return [{ slot, position, tokens, outputs: position + tokens.length === script.length ? 1 : 0 }];
}

describe("several sequences in one step", () => {
  it.each([
    [[1], 1000, "coordinator" as const],
    [[1], 64, "coordinator" as const],
    [[1, 1], 64, "coordinator" as const],
    [[2, 0, 1], 100, "coordinator" as const],
    [[2, 0, 1], 100, "sharded" as const],
  ])("have the logits of each alone, on %j, in pieces of %i tokens (head: %s)", async (shares, piece, head) => {
    await using ranks = await Ranks.start(demo, shares, options, { head });
    const expected: Float32Array[][] = [];
    for (const script of scripts.keys()) expected.push(await alone(ranks.first, script));
    const found = await together(ranks.first, piece);
    for (const [script, rows] of expected.entries()) {
      expect(found[script]).toHaveLength(rows.length);
      rows.forEach((row, i) => {
        expect(distance(row, found[script]![i]!), `sequence ${script} at ${i}`).toBeLessThan(roundingDistance);
      });
    }
  });

  it("compute the same bits in every slot", async () => {
    await using engine = await startEngine(demo, options);
    const first = await alone(engine, 1, 0);
    expect(await alone(engine, 1, 3)).toEqual(first);
    await together(engine, 50);
    expect(await alone(engine, 1, 2)).toEqual(first);
  });

  it("are refused where they do not fit", async () => {
    await using engine = await startEngine(demo, options);
    const part = (slot: number, count = 1, position = 0) => {
      return { slot, tokens: Array<number>(count).fill(1), position, outputs: 1 };
    };
    await expect(engine.step([part(4)])).rejects.toThrow(RangeError);
    await expect(engine.step([part(1), part(1)])).rejects.toThrow(RangeError);
    await expect(engine.step([part(0, 300), part(1, 300)])).rejects.toThrow(RangeError);
    await expect(engine.step([part(0, 1, 512)])).rejects.toThrow(RangeError);
    await expect(engine.step([])).rejects.toThrow(RangeError);
    expect(await engine.step([part(3), part(0)])).toHaveLength(2 * 1024);
  });
});

describe("hidden states", () => {
  it.each([
    [[1], "coordinator" as const],
    [[1, 1], "coordinator" as const],
    [[1, 1], "sharded" as const],
  ])("are what the head multiplies, beside logits in one step, on %j (head: %s)", async (shares, head) => {
    await using ranks = await Ranks.start(demo, shares, options, { head });
    const { embeddingLength, vocabularySize } = ranks.first.description.hyperparameters;
    const tokens = scripts[1]!;
    const hidden = { slot: 1, tokens, position: 0, outputs: tokens.length, hidden: true };
    const logits = { slot: 2, tokens, position: 0, outputs: 1 };
    const results = await ranks.first.step([logits, hidden, { ...logits, slot: 0 }]);
    const states = results.slice(vocabularySize, vocabularySize + embeddingLength * tokens.length);
    const last = states.subarray(embeddingLength * (tokens.length - 1));
    for (const [token, logit] of (await headTimes(last, embeddingLength)).entries()) {
      expect(Math.abs(results[token]! - logit)).toBeLessThan(roundingDistance);
    }
    const alone = await ranks.first.step({ ...hidden, slot: 0 });
    expect(distance(alone.slice(), states)).toBeLessThan(roundingDistance);
  });
});

/** The first ten logits that follow from a final hidden state. */
async function headTimes(state: Float32Array, length: number): Promise<number[]> {
  const { tensors } = await readGguf(demo);
  using head = new Embedding(openGgml(), demo, tensors.get("output.weight") ?? tensors.get("token_embd.weight")!);
  const rows = new Float32Array(10 * length);
  head.read(
    Int32Array.from({ length: 10 }, (_, token) => token),
    rows,
  );
  const dot = (row: number) => state.reduce((sum, value, i) => sum + value * rows[row * length + i]!, 0);
  return Array.from({ length: 10 }, (_, row) => dot(row));
}

describe("cells of the KV cache", () => {
  it.each([[[1]], [[1, 0, 2]]])(
    "go to another slot, into a copy and back, on ranks in proportion %j",
    async (shares) => {
      await using ranks = await Ranks.start(demo, shares, options);
      const { first: engine } = ranks;
      const prompt = scripts[0]!.slice(0, 270);
      const question = (slot: number) => engine.step({ slot, tokens: [5, 6, 7], position: 270, outputs: 1 });
      await engine.step({ tokens: prompt, position: 0, outputs: 0 });
      const expected = Float32Array.from(await question(0));
      await engine.moveCells({ move: "copy", from: 0, to: 2, cells: 270 });
      await engine.moveCells({ move: "save", slot: 0, key: 7, cells: 270 });
      expect(await question(2)).toEqual(expected);
      await engine.step({ tokens: scripts[1]!, position: 0, outputs: 0 });
      await engine.moveCells({ move: "restore", slot: 0, key: 7, cells: 200 });
      await engine.step({ tokens: prompt.slice(200), position: 200, outputs: 0 });
      expect(distance(await question(0), expected)).toBeLessThan(roundingDistance);
      await engine.moveCells({ move: "restore", slot: 3, key: 7, cells: 270 });
      expect(await question(3)).toEqual(expected);
    },
  );

  it("are kept no more of than there is room for, and refused where there are none", async () => {
    await using engine = await startEngine(demo, options);
    const violation = { code: "PROTOCOL_VIOLATION" };
    const save = (key: number, cells: number) => engine.moveCells({ move: "save", slot: 0, key, cells });
    await save(1, 200);
    await expect(save(2, 101)).rejects.toMatchObject(violation);
    await save(2, 100);
    await engine.moveCells({ move: "drop", key: 1 });
    await expect(engine.moveCells({ move: "restore", slot: 0, key: 1, cells: 10 })).rejects.toMatchObject(violation);
    await expect(engine.moveCells({ move: "restore", slot: 0, key: 2, cells: 101 })).rejects.toMatchObject(violation);
    await engine.moveCells({ move: "clear" });
    await save(3, 300);
    await expect(engine.moveCells({ move: "copy", from: 0, to: 4, cells: 1 })).rejects.toThrow(RangeError);
    await expect(engine.moveCells({ move: "copy", from: 0, to: 1, cells: 513 })).rejects.toThrow(RangeError);
    expect(logSoftmax(await engine.step({ tokens: [1], position: 0, outputs: 1 }))).toHaveLength(1024);
  });
});
