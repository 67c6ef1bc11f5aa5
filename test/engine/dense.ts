import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import { generateModel } from "../../bench/generateModel.mjs";
import { engineDefaults, logSoftmax, type ReferenceRun, type References, readReferences } from "./oracle.ts";

/** Answers of llama.cpp with tiny models of architectures that vary on known facts. */
export const dense = readReferences("dense");

/** Options for all results of a reference in one step. */
export const allAtOnce: EngineOptions = { ...engineDefaults, outputs: 64 };

/** A model of `dense`. */
export type DenseModel = References["models"][number];

/** The model of this shape and type. */
export function denseModel(shape: string, type: string): DenseModel {
  const found = dense.models.find(({ generator }) => generator!.shape === shape && generator!.type === type);
  if (found === undefined) throw new Error(`there is no reference of ${shape} in ${type}`);
  return found;
}

/** Shapes that have a reference in this type. */
export function shapesOf(type: string): string[] {
  return dense.models.flatMap(({ generator }) => (generator!.type === type ? [generator!.shape] : []));
}

/** Files of models, each generated when it is first asked for. */
export class ModelFiles implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "stellium-test-"));

  readonly #made = new Map<DenseModel, Promise<{ path: string; same: boolean }>>();

  /** The file, and whether it is the one that the reference was made from: CPUs quantize differently. */
  make(model: DenseModel): Promise<{ path: string; same: boolean }> {
    const made = this.#made.get(model) ?? this.#generate(model);
    this.#made.set(model, made);
    return made;
  }

  async #generate({ generator, sha256 }: DenseModel) {
    const path = join(this.#folder, `${generator!.shape}-${generator!.type}.gguf`);
    await generateModel({ path, ...generator! });
    return { path, same: createHash("sha256").update(readFileSync(path)).digest("hex") === sha256 };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** Log-probabilities of all tokens at each position of a reference, all computed in one step. */
export async function teacherForced(engine: Engine, run: ReferenceRun): Promise<Float64Array[]> {
  const tokens = [...run.prompt, ...run.tokens.slice(0, -1)];
  return rowsOf(await engine.step({ tokens, position: 0, outputs: run.tokens.length }), run.tokens.length);
}

/** The largest difference to a reference's log-probabilities, over its most likely tokens at all positions. */
export function differenceTo(run: ReferenceRun, rows: readonly Float64Array[]): number {
  const differences = rows.flatMap((row, i) => run.top[i]!.map(([token, value]) => Math.abs(row[token]! - value)));
  return differences.reduce((most, value) => (value > most || Number.isNaN(value) ? value : most), 0);
}

/**
 * Largest difference of log-probabilities where tokens differ: on the reference's CPU, and on another one, which rounds
 * activations in another way: ggml's piledriver variant makes 0.39 of it in Q4_K. Rounding adds up over layers: ggml's x64 variant makes 0.87 of it in the 46 layers of
 * `tiny-gemma2-deep`.
 */
export const nearTie = { F32: 1e-3, quantized: 1e-2, elsewhere: 0.5, deepElsewhere: 1.5 };
/**
 * Sums over ranks and products of batches round differently, and more so the products of quantized activations: the most
 * that this makes of the log-probabilities of the five most likely tokens, at all positions. If no more does, other tokens
 * are written at near-ties only. Measured: 0.02 in F32, 0.42 in Q8_0 and 0.55 in Q4_K, over ggml's variants for x86.
 */
export const rounding: Record<string, number> = { F32: 0.05, Q8_0: 0.7, Q4_K: 0.8 };

/**
 * More than all rounding of a reference in F32 that is computed in one pass (0.08, because of the f16 cache): what another
 * fact makes of it.
 */
export const noticed = 0.2;

/**
 * Follows a reference with two sequences. The first pass takes all of it and, beside it, the prompt of the second
 * sequence; eight more take a token of each. Returns the largest difference in the first pass and in the others.
 */
export async function sideBySide(engine: Engine, run: ReferenceRun): Promise<{ batch: number; decoding: number }> {
  const { prompt, tokens, top } = run;
  const text = [...prompt, ...tokens.slice(0, -1)];
  const whole = { slot: 0, tokens: text, position: 0, outputs: tokens.length };
  const pass = [whole, { slot: 1, tokens: prompt, position: 0, outputs: 0 }];
  const rows = rowsOf(await engine.step(pass), tokens.length);
  const decoded = await decodeSideBySide(engine, text, [prompt.length + 20, prompt.length]);
  const expected = decoded.map(({ position }) => top[position - prompt.length + 1]!);
  return {
    batch: differenceTo(run, rows),
    decoding: differenceTo(
      { ...run, top: expected },
      decoded.map(({ row }) => row),
    ),
  };
}

/**
 * Two sequences of the same text, whose first tokens, `starts` of them, come in one pass, and the next eight in passes of
 * one token of each. Returns log-probabilities of all tokens after each of those, and its position.
 */
export async function sideBySideRows(
  engine: Engine,
  text: readonly number[],
  starts: readonly number[],
): Promise<Decoded[]> {
  await engine.step(starts.map((end, slot) => ({ slot, tokens: text.slice(0, end), position: 0, outputs: 0 })));
  return await decodeSideBySide(engine, text, starts);
}

/** Log-probabilities of all tokens, and the position of the token that they follow. */
interface Decoded {
  readonly position: number;
  readonly row: Float64Array;
}

/** Takes eight passes of a token of each of two sequences of the same text, from the positions `starts` on. */
async function decodeSideBySide(
  engine: Engine,
  text: readonly number[],
  starts: readonly number[],
): Promise<Decoded[]> {
  const decoded: Decoded[] = [];
  for (let step = 0; step < 8; step++) {
    const at = starts.map((start) => start + step);
    const parts = at.map((position, slot) => ({ slot, tokens: [text[position]!], position, outputs: 1 }));
    const rows = rowsOf(await engine.step(parts), starts.length);
    decoded.push(...at.map((position, i) => ({ position, row: rows[i]! })));
  }
  return decoded;
}

/** Log-probabilities of all tokens in each of `count` rows of logits. */
function rowsOf(logits: Float32Array, count: number): Float64Array[] {
  const width = logits.length / count;
  return Array.from({ length: count }, (_, i) => logSoftmax(logits.subarray(i * width, (i + 1) * width)));
}

/** Shapes of a type without the deep ones, whose facts hang on the number of layers. */
export function shallowShapes(type: string): string[] {
  return shapesOf(type).filter((shape) => !shape.endsWith("-deep"));
}
