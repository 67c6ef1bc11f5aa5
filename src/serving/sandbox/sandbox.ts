import { Worker } from "node:worker_threads";
import { type ErrorFacts, reasonOf, StelliumError } from "../../errors.ts";
import { threadScript } from "../../system/threadScript.ts";
import type { GrammarSource } from "../grammar/compile.ts";
import type { CompiledGrammar } from "../grammar/constraint.ts";
import { JsonBounds } from "../json.ts";
import type { Jobs } from "./jobs.ts";

/** A job as it is sent to the thread. */
export interface SandboxJob {
  readonly name: keyof Jobs;
  /** As JSON: V8 copies a text much faster than objects. */
  readonly input: string;
}

/** What the thread sends back, after a first `ready`. */
export type SandboxAnswer = { readonly result: unknown } | { readonly error: ErrorFacts };

/** The error for a job that was stopped. @param reason - the limit that it passed, as the end of a sentence */
export type OverLimit = (reason: string) => StelliumError;

interface Pending extends SandboxJob {
  readonly overLimit: OverLimit;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The time that a job may take, in milliseconds. A conversation of a thousand messages takes a hundredth of it. */
const longestJob = 3000;

/** The heap of the thread. Where it is not enough, the thread is ended. */
const resourceLimits = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 };

/**
 * What a plan of memory counts for a sandbox, in bytes: measured with its heap full, with what V8 takes beyond it to end the
 * thread, and copies of texts on their way.
 */
export const sandboxBytes = 80e6;

/** What a job may be given. */
const most = { characters: 2 ** 21, values: 2 ** 16 };

/**
 * A thread for work whose amount is decided by a model's author or by a request: templates, grammars and schemas. It
 * does one job after another. A job that passes the limit of time or memory ends with its thread; the next job gets a new one.
 * The thread starts with the first job.
 */
export class Sandbox implements AsyncDisposable {
  readonly #milliseconds: number;
  readonly #waiting: Pending[] = [];
  #running: Pending | undefined;
  #thread: Worker | undefined;
  #isReady = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param milliseconds - the longest that a job may take */
  constructor(milliseconds = longestJob) {
    this.#milliseconds = milliseconds;
  }

  /**
   * Does a job, after those that came before it. Throws what the job throws, what `overLimit` makes of a job that was
   * stopped, `BAD_USAGE` for an input that is no JSON, and `ABORTED` when it is closed.
   */
  run<Name extends keyof Jobs>(
    name: Name,
    input: Parameters<Jobs[Name]>[0],
    overLimit: OverLimit,
  ): Promise<ReturnType<Jobs[Name]>> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(closed());
      const json = asJson(input);
      const excess = excessOf(json);
      if (excess !== undefined) return reject(overLimit(excess));
      this.#waiting.push({ name, input: json, overLimit, resolve: resolve as (result: unknown) => void, reject });
      this.#next();
    });
  }

  /** Ends the thread, whatever it is doing. Jobs that have not ended fail with `ABORTED`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(closed());
    this.#end()?.reject(closed());
    await this.#thread?.terminate();
  }

  #next(): void {
    if (this.#running !== undefined) return;
    this.#running = this.#waiting.shift();
    if (this.#running === undefined) return void this.#thread?.unref();
    const { name, input } = this.#running;
    this.#thread ??= this.#start();
    this.#thread.ref();
    this.#thread.postMessage({ name, input } satisfies SandboxJob);
    if (this.#isReady) this.#limitTime();
  }

  /** Starting the thread is not the job's time. */
  #limitTime(): void {
    const reason = `it ran longer than ${this.#milliseconds / 1000} seconds`;
    this.#timer = setTimeout(() => this.#stop(reason), this.#milliseconds);
  }

  /** The job that runs runs no longer. */
  #end(): Pending | undefined {
    clearTimeout(this.#timer);
    const ended = this.#running;
    this.#running = undefined;
    return ended;
  }

  #start(): Worker {
    this.#isReady = false;
    const thread = new Worker(threadScript("sandbox"), { resourceLimits });
    thread.on("message", (message: SandboxAnswer | "ready") => this.#take(thread, message));
    thread.on("error", (error: NodeJS.ErrnoException) => this.#lose(thread, error));
    return thread;
  }

  #take(thread: Worker, answer: SandboxAnswer | "ready"): void {
    if (thread !== this.#thread) return;
    if (answer === "ready") {
      this.#isReady = true;
      if (this.#running !== undefined) this.#limitTime();
      return;
    }
    const job = this.#end();
    if ("result" in answer) job?.resolve(answer.result);
    else job?.reject(new StelliumError(answer.error.code, answer.error.values));
    this.#next();
  }

  /** Ends the job that runs, and with it the thread. */
  #stop(reason: string): void {
    const job = this.#end();
    void this.#thread?.terminate();
    this.#thread = undefined;
    job?.reject(job.overLimit(reason));
    this.#next();
  }

  /** The thread ended by itself. */
  #lose(thread: Worker, error: NodeJS.ErrnoException): void {
    if (thread !== this.#thread) return;
    const memory = `it needed more than ${resourceLimits.maxOldGenerationSizeMb} MB of memory`;
    this.#stop(error.code === "ERR_WORKER_OUT_OF_MEMORY" ? memory : error.message);
  }
}

function asJson(input: unknown): string {
  try {
    return JSON.stringify(input);
  } catch (error) {
    throw new StelliumError("BAD_USAGE", { detail: `a value is no JSON: ${reasonOf(error)}` }, { cause: error });
  }
}

/** Why an input is too large for the thread's memory; undefined if it is not. */
function excessOf(json: string): string | undefined {
  if (json.length > most.characters) return `it is given JSON of more than ${most.characters} characters`;
  const bounds = new JsonBounds();
  bounds.add(Buffer.from(json));
  return bounds.values > most.values ? `it is given more than ${most.values} elements and fields` : undefined;
}

/**
 * Compiles a grammar in a sandbox; undefined where nothing is to be held to. Throws `GRAMMAR_INVALID`,
 * `SCHEMA_UNSUPPORTED`, and `BAD_USAGE` for a call that is demanded and cannot be made.
 */
export function compileGrammar(sandbox: Sandbox, source: GrammarSource): Promise<CompiledGrammar | undefined> {
  return sandbox.run("compileSource", source, (reason) => new StelliumError("GRAMMAR_INVALID", { reason }));
}

function closed(): StelliumError {
  return new StelliumError("ABORTED", { reason: "the model is closed" });
}
