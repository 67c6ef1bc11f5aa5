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
export async function teacherForced(engine: Engine, run: ReferenceRun, slot = 0): Promise<Float64Array[]> {
  const tokens = [...run.prompt, ...run.tokens.slice(0, -1)];
  const count = run.tokens.length;
  const logits = await engine.step({ tokens, position: 0, outputs: count, slot });
  const width = logits.length / count;
  return Array.from({ length: count }, (_, i) => logSoftmax(logits.subarray(i * width, (i + 1) * width)));
}

/** The largest difference to a reference's log-probabilities, over its most likely tokens at all positions. */
export function differenceTo(run: ReferenceRun, rows: readonly Float64Array[]): number {
  const differences = rows.flatMap((row, i) => run.top[i]!.map(([token, value]) => Math.abs(row[token]! - value)));
  return differences.reduce((most, value) => (value > most || Number.isNaN(value) ? value : most), 0);
}

/**
 * Largest difference of log-probabilities where tokens differ: on the reference's CPU, and on another one, which rounds
 * activations in another way. Rounding adds up over layers: ggml's x64 variant makes 0.87 of it in the 46 layers of
 * `tiny-gemma2-deep`.
 */
export const nearTie = { F32: 1e-3, quantized: 1e-2, elsewhere: 0.35, deepElsewhere: 1.5 };
/**
 * Sums over ranks and products of batches round differently, and more so the products of quantized activations: of what
 * is said at other positions than near-ties of tokens.
 */
export const rounding: Record<string, number> = { F32: 0.05, Q4_K: 0.8 };

/** More than all rounding of a reference that is computed in one pass: what another fact makes of it. */
export const noticed = 0.2;

/** Two sequences that follow the same reference side by side, the first one some tokens ahead. Returns the worse difference. */
export async function sideBySide(
  engine: Engine,
  { prompt, tokens, top }: ReferenceRun,
  ahead: number,
): Promise<number> {
  const rows = await sideBySideRows(engine, [...prompt, ...tokens], [prompt.length + ahead, prompt.length]);
  const differences = rows.map(({ position, row }) =>
    differenceTo({ prompt, tokens, top: [top[position - prompt.length + 1]!] }, [row]),
  );
  return Math.max(...differences);
}

/**
 * Two sequences of the same text, whose first tokens, `starts` of them, come in one pass, and the next eight in passes of
 * one token of each. Returns log-probabilities of all tokens after each of those, and its position.
 */
export async function sideBySideRows(
  engine: Engine,
  text: readonly number[],
  starts: readonly number[],
): Promise<{ position: number; row: Float64Array }[]> {
  await engine.step(starts.map((end, slot) => ({ slot, tokens: text.slice(0, end), position: 0, outputs: 0 })));
  const rows: { position: number; row: Float64Array }[] = [];
  for (let step = 0; step < 8; step++) {
    const at = starts.map((start) => start + step);
    const parts = at.map((position, slot) => ({ slot, tokens: [text[position]!], position, outputs: 1 }));
    const logits = await engine.step(parts);
    const width = logits.length / starts.length;
    rows.push(...at.map((position, i) => ({ position, row: logSoftmax(logits.subarray(i * width, (i + 1) * width)) })));
  }
  return rows;
}

/** Shapes of a type without the deep ones, whose facts hang on the number of layers. */
export function shallowShapes(type: string): string[] {
  return shapesOf(type).filter((shape) => !shape.endsWith("-deep"));
}
