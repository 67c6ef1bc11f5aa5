import type { Coordinator } from "../cluster/coordinator.ts";
import type { CellMove } from "../engine/rankCommand.ts";
import type { StepRequest } from "../engine/stepRequest.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import type { KeptPrefixes } from "./keptPrefixes.ts";
import { shareBatch } from "./shareBatch.ts";
import { type Slot, SlotTable } from "./slots.ts";
import type { Task } from "./task.ts";

/** What a scheduler needs of the ranks. */
export type StepTaker = Pick<
  Coordinator,
  "ready" | "step" | "moveCells" | "batch" | "slots" | "storedCells" | "context"
>;

/** What a slot is doing. */
export interface SlotState {
  readonly id: number;
  readonly state: "idle" | "prefill" | "decode";
  /** Of its request; all counts are 0 where it is idle. */
  readonly promptTokens: number;
  /** Of the prompt, those that the KV cache held already. */
  readonly cachedTokens: number;
  readonly generatedTokens: number;
  /** Tokens it has room for. */
  readonly context: number;
}

/** What happened since the start. */
export interface SchedulerCounters {
  /** Tokens of prompts that passed through the blocks. */
  promptTokens: number;
  /** Tokens of prompts that the KV cache held already. */
  cachedTokens: number;
  generatedTokens: number;
  steps: number;
  /** Seconds of steps that held tokens of prompts. */
  prefillSeconds: number;
  /** Seconds of the other steps. */
  decodeSeconds: number;
  readonly requests: { completed: number; cancelled: number; failed: number; refused: number };
}

/** Memory that waiting tasks may take together, in bytes. A prompt of 100,000 tokens takes 1 MB. */
const mostWaitingBytes = 64e6;

/** Who has which part of a step. */
interface Turn {
  readonly slot: Slot;
  readonly task: Task;
  readonly part: StepRequest;
}

/**
 * Takes many sequences through the blocks side by side. Each step holds a token of every sequence that is decoded, and
 * as much of the prompts as there is room for besides.
 */
export class Scheduler implements AsyncDisposable {
  readonly counters: SchedulerCounters = {
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    steps: 0,
    prefillSeconds: 0,
    decodeSeconds: 0,
    requests: { completed: 0, cancelled: 0, failed: 0, refused: 0 },
  };
  readonly #ranks: StepTaker;
  readonly #table: SlotTable;
  readonly #queue: Task[] = [];
  readonly #mostQueued: number;
  readonly #kept: KeptPrefixes | undefined;
  /** Tasks that ended while a step was under way; their slots are free behind it. */
  readonly #cancelled = new Set<Task>();
  readonly #ended: Promise<void>;
  /** Stops what the ranks are doing, if they are. */
  #stopper: AbortController | undefined;
  #wake: () => void = () => {};
  #closed = false;
  /** Whether the ranks may have copies of cells that are not known here any more. */
  #stale = false;

  /**
   * @param mostQueued - tasks that may wait for a slot
   * @param kept - what an earlier run left, and this one leaves
   */
  constructor(ranks: StepTaker, mostQueued: number, kept?: KeptPrefixes) {
    this.#ranks = ranks;
    this.#mostQueued = mostQueued;
    this.#kept = kept;
    this.#table = new SlotTable(ranks.slots, ranks.storedCells);
    this.#ended = this.#loop();
  }

  get slots(): readonly SlotState[] {
    return this.#table.slots.map((slot) => stateOf(slot, this.#ranks.context));
  }

  /** Tasks that wait for a slot. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Has a task done, after those that came before it. Throws `QUEUE_FULL` where too many wait, `ABORTED` when closed. */
  submit(task: Task): void {
    if (this.#closed) throw closed();
    const running = this.#table.busy.length;
    const bytes = this.#queue.reduce((sum, waiting) => sum + waiting.bytes, task.bytes);
    const isFull = this.#queue.length >= this.#mostQueued + (this.#table.slots.length - running);
    if (isFull || bytes > mostWaitingBytes) {
      this.counters.requests.refused++;
      throw new StelliumError("QUEUE_FULL", { running, queued: this.#queue.length });
    }
    this.#queue.push(task);
    this.#wake();
  }

  /** Ends a task, if it is not over. It is told so at once; its slot is free when the step under way ends. */
  cancel(task: Task, reason: string): void {
    const waiting = this.#queue.indexOf(task);
    const running = this.#table.slots.some((slot) => slot.task === task) && !this.#cancelled.has(task);
    if (waiting < 0 && !running) return;
    this.counters.requests.cancelled++;
    if (running) this.#cancelled.add(task);
    else this.#queue.splice(waiting, 1);
    task.fail(new StelliumError("ABORTED", { reason }));
    // A step goes on for as long as anybody wants it.
    if (this.#wanted.length === 0) this.#stopper?.abort(reason);
    this.#wake();
  }

  /** Ends every task by `ABORTED`. Resolves when no step is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const reason = "the model is being closed";
    for (const task of [...this.#queue, ...this.#wanted.map((slot) => slot.task!)]) this.cancel(task, reason);
    this.#stopper?.abort(reason);
    this.#wake();
    await this.#ended;
  }

  /** Slots of tasks that are not cancelled, the longest running first. */
  get #wanted(): Slot[] {
    return this.#table.busy.filter(({ task }) => !this.#cancelled.has(task!));
  }

  async #loop(): Promise<void> {
    if (this.#kept) this.#table.adopt(await this.#kept.bring(this.#ranks.storedCells));
    while (!this.#closed) {
      try {
        this.#release();
        await this.#prepare();
        await this.#admit();
        const turns = this.#compose();
        if (turns.length === 0) await this.#woken();
        else this.#advance(turns, await this.#step(turns));
      } catch (error) {
        this.#fail(error);
      }
    }
    if (this.#kept) await this.#keep(this.#kept);
  }

  /** Leaves to the next run what slots and copies hold. */
  async #keep(kept: KeptPrefixes): Promise<void> {
    try {
      await this.#move(this.#table.storeAll());
      await kept.keep(this.#table.stored);
    } catch (error) {
      log("warn", "prefixes could not be kept", { reason: reasonOf(error) });
    }
  }

  /** Frees the slots of cancelled tasks. */
  #release(): void {
    for (const slot of this.#table.busy) if (this.#cancelled.has(slot.task!)) slot.task = undefined;
    this.#cancelled.clear();
  }

  /** A rank may have been lost, and filled again, while there was nothing to do: what it held is gone. */
  async #prepare(): Promise<void> {
    if (this.#queue.length === 0 || this.#table.busy.length > 0) return;
    if (!(await this.#stoppable((signal) => this.#ranks.ready(signal)))) this.#forget();
  }

  /** Gives idle slots to the tasks that have waited longest. */
  async #admit(): Promise<void> {
    while (this.#queue.length > 0 && this.#table.hasIdle) {
      const task = this.#queue.shift()!;
      const { slot, moves } = this.#table.place(task);
      await this.#move(moves);
      if (this.#cancelled.has(task)) continue;
      this.counters.cachedTokens += slot.reused;
      task.admit(slot.reused);
    }
  }

  /** Moves cells. Where that fails, what the slots and copies hold is not known any more. */
  async #move(moves: readonly CellMove[]): Promise<void> {
    const all: CellMove[] = this.#stale ? [{ move: "clear" }, ...moves] : [...moves];
    try {
      for (const move of all) await this.#stoppable((signal) => this.#ranks.moveCells(move, signal));
      this.#stale = false;
    } catch (error) {
      this.#forget();
      throw error;
    }
  }

  /** What the next step takes of each task. One that chooses its next token yet takes no part. */
  #compose(): Turn[] {
    const slots = this.#wanted.filter(({ pending }) => pending > 0);
    const wanted = slots.map(({ pending }) => pending);
    const counts = shareBatch(wanted, this.#ranks.batch);
    return slots.map((slot, i) => ({ slot, task: slot.task!, part: slot.part(slot.task!, counts[i]!) }));
  }

  async #step(turns: readonly Turn[]): Promise<Float32Array> {
    const started = performance.now();
    const parts = turns.map(({ part }) => part);
    const rows = await this.#stoppable((signal) => this.#ranks.step(parts, signal));
    this.#count(turns, (performance.now() - started) / 1000);
    return rows;
  }

  /** Runs what is to be stopped when nobody wants it any more. */
  async #stoppable<T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.#stopper = new AbortController();
    try {
      return await action(this.#stopper.signal);
    } finally {
      this.#stopper = undefined;
    }
  }

  /** Hands each task its rows. */
  #advance(turns: readonly Turn[], rows: Float32Array): void {
    let offset = 0;
    for (const { slot, task, part } of turns) {
      const own = rows.subarray(offset, offset + part.outputs * task.rowLength);
      offset += own.length;
      for (let i = 0; i < part.tokens.length; i++) slot.cached.push(part.tokens[i]!);
      if (own.length > 0 && !this.#cancelled.has(task)) this.#goOn(slot, task, own);
    }
  }

  /** A task that cannot go on fails alone. */
  #goOn(slot: Slot, task: Task, rows: Float32Array): void {
    const before = task.generatedTokens;
    try {
      const goesOn = task.advance(rows);
      if (typeof goesOn === "boolean") this.#settle(slot, task, before, goesOn);
      else void this.#waitFor(slot, task, before, goesOn);
    } catch (error) {
      this.#failAlone(slot, task, error);
    }
  }

  async #waitFor(slot: Slot, task: Task, before: number, goesOn: Promise<boolean>): Promise<void> {
    try {
      this.#settle(slot, task, before, await goesOn);
    } catch (error) {
      this.#failAlone(slot, task, error);
    }
    this.#wake();
  }

  /** Counts what a task wrote, unless it was ended meanwhile. */
  #settle(slot: Slot, task: Task, before: number, goesOn: boolean): void {
    if (slot.task !== task || this.#cancelled.has(task)) return;
    this.counters.generatedTokens += task.generatedTokens - before;
    if (goesOn) return;
    slot.task = undefined;
    this.counters.requests.completed++;
  }

  #failAlone(slot: Slot, task: Task, error: unknown): void {
    if (slot.task !== task || this.#cancelled.has(task)) return;
    slot.task = undefined;
    this.counters.requests.failed++;
    task.fail(error);
  }

  /** A step failed: so do all that it was taken for. One that was stopped left the cache as it was. */
  #fail(error: unknown): void {
    if (!(error instanceof StelliumError && error.code === "ABORTED")) this.#forget();
    for (const slot of this.#wanted) {
      slot.task!.fail(error);
      slot.task = undefined;
      this.counters.requests.failed++;
    }
  }

  #forget(): void {
    this.#table.forget();
    this.#stale = this.#ranks.storedCells > 0;
  }

  #count(turns: readonly Turn[], seconds: number): void {
    const prompts = turns.filter(({ task }) => task.generatedTokens === 0);
    this.counters.steps++;
    this.counters.promptTokens += prompts.reduce((sum, { part }) => sum + part.tokens.length, 0);
    if (prompts.length > 0) this.counters.prefillSeconds += seconds;
    else this.counters.decodeSeconds += seconds;
  }

  /** Resolves when there may be something to do. */
  async #woken(): Promise<void> {
    if (this.#closed || this.#cancelled.size > 0 || (this.#queue.length > 0 && this.#table.hasIdle)) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}

function stateOf({ id, task, reused }: Slot, context: number): SlotState {
  if (task === undefined) {
    return { id, state: "idle", promptTokens: 0, cachedTokens: 0, generatedTokens: 0, context };
  }
  const { promptTokens, generatedTokens } = task;
  const state = generatedTokens > 0 ? "decode" : "prefill";
  return { id, state, promptTokens, cachedTokens: reused, generatedTokens, context };
}

function closed(): StelliumError {
  return new StelliumError("ABORTED", { reason: "the model is closed" });
}
