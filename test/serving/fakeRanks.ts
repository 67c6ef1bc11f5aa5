import { setImmediate } from "node:timers/promises";
import type { CellMove } from "#stellium/engine/rankCommand";
import type { StepRequest } from "#stellium/engine/stepRequest";
import { StelliumError } from "#stellium/errors";
import { type GenerationResult, generateTokens } from "#stellium/serving/generation";
import { defaultSampling } from "#stellium/serving/sampler";
import { Scheduler, type StepTaker } from "#stellium/serving/scheduler";
import type { Tokenizer } from "#stellium/serving/tokenizer";

export const vocabularySize = 50;
/** Ends a generation. */
export const eog = 49;

/** What the model of these ranks writes after some tokens: anything they hold has a say in it. */
export function follower(tokens: readonly number[]): number {
  return tokens.reduce((hash, token) => (hash * 31 + token + 7) % 1009, 1) % vocabularySize;
}

/** What is written after a prompt, most `count` tokens. */
export function answerTo(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  while (tokens.length - prompt.length < count && (tokens.length === prompt.length || tokens.at(-1) !== eog)) {
    tokens.push(follower(tokens));
  }
  return tokens.slice(prompt.length);
}

/** Ranks without a model: cells hold tokens, and only what is in the cells decides the logits. */
export class FakeRanks implements StepTaker {
  readonly context = 200;
  readonly batch: number;
  readonly slots: number;
  readonly storedCells: number;
  /** Every step that was taken. */
  readonly steps: StepRequest[][] = [];
  readonly moves: CellMove[] = [];
  /** Runs before each step; what it throws the step throws. */
  before: (signal: AbortSignal | undefined) => Promise<unknown> = () => setImmediate();
  readonly #cells: number[][];
  readonly #stored = new Map<number, number[]>();
  #lost = false;

  constructor({ slots = 4, batch = 16, storedCells = 0 } = {}) {
    this.slots = slots;
    this.batch = batch;
    this.storedCells = storedCells;
    this.#cells = Array.from({ length: slots }, () => []);
  }

  /** False once after `lose`. */
  async ready(): Promise<boolean> {
    await setImmediate();
    const kept = !this.#lost;
    this.#lost = false;
    return kept;
  }

  async step(request: StepRequest | readonly StepRequest[], signal?: AbortSignal): Promise<Float32Array> {
    const parts = "tokens" in request ? [request] : [...request];
    this.steps.push(parts);
    await this.before(signal);
    if (signal?.aborted) throw new StelliumError("ABORTED", { reason: String(signal.reason) });
    const tokens = parts.reduce((sum, part) => sum + part.tokens.length, 0);
    if (tokens > this.batch) throw new RangeError(`${tokens} tokens are more than ${this.batch}`);
    return Float32Array.from(parts.flatMap((part) => this.#take(part)));
  }

  async moveCells(move: CellMove): Promise<void> {
    await setImmediate();
    this.moves.push(move);
    if (move.move === "copy") this.#fill(move.to, this.#cells[move.from]!, move.cells);
    else if (move.move === "save") this.#stored.set(move.key, this.#cells[move.slot]!.slice(0, move.cells));
    else if (move.move === "restore") this.#fill(move.slot, this.#stored.get(move.key)!, move.cells);
    else if (move.move === "drop") this.#stored.delete(move.key);
    else this.#stored.clear();
    const stored = [...this.#stored.values()].flat().length;
    if (stored > this.storedCells) throw new RangeError(`${stored} cells are stored`);
  }

  /** Loses everything, as ranks do that are linked anew. */
  lose(): void {
    this.#lost = true;
    for (const cells of this.#cells) cells.fill(-1);
  }

  #take({ slot = 0, tokens, position, outputs, hidden }: StepRequest): number[] {
    const cells = this.#cells[slot]!;
    if (cells.length < position) throw new RangeError(`slot ${slot} has ${cells.length} cells, not ${position}`);
    cells.length = position;
    cells.push(...Array.from(tokens));
    if (hidden) return cells.slice(-outputs).flatMap((token) => [token, 1]);
    return outputs === 0 ? [] : Array.from({ length: vocabularySize }, (_, i) => (i === follower(cells) ? 1 : 0));
  }

  #fill(slot: number, from: readonly number[], count: number): void {
    if (from.length < count) throw new RangeError(`there are ${from.length} cells, not ${count}`);
    this.#cells[slot] = from.slice(0, count);
  }
}

const tokenizer = {
  isEog: (token: number) => token === eog,
  pieceBytes: (token: number) => Uint8Array.of(97 + (token % 26)),
} as unknown as Tokenizer;

/** A scheduler over fake ranks, and how to ask it. */
export class FakeModel implements AsyncDisposable {
  readonly ranks: FakeRanks;
  readonly scheduler: Scheduler;

  constructor(options: ConstructorParameters<typeof FakeRanks>[0] = {}, queue = 100) {
    this.ranks = new FakeRanks(options);
    this.scheduler = new Scheduler(this.ranks, queue);
  }

  get requestModel() {
    const { scheduler } = this;
    return {
      scheduler,
      tokenizer,
      context: this.ranks.context,
      vocabularySize,
      embeddingLength: 2,
      pooling: "mean" as const,
    };
  }

  open(prompt: readonly number[], maxTokens: number, signal?: AbortSignal) {
    const sampling = { ...defaultSampling, temperature: 0 };
    return generateTokens(this.requestModel, { prompt, maxTokens, sampling }, signal);
  }

  async write(prompt: readonly number[], maxTokens: number, signal?: AbortSignal): Promise<GenerationResult> {
    const generation = this.open(prompt, maxTokens, signal);
    for (;;) {
      const { done, value } = await generation.next();
      if (done) return value;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.scheduler[Symbol.asyncDispose]();
  }
}
