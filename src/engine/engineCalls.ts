import { type ErrorFacts, StelliumError } from "../errors.ts";
import { command, control, type EngineMemory, putMessage, status, takeMessage } from "./protocol.ts";
import { encodeCommand, type RankCommand } from "./rankCommand.ts";

/** The main thread's end of what the engine thread is asked to do: one thing at a time, by memory that they share. */
export class EngineCalls {
  readonly #memory: EngineMemory;

  constructor(memory: EngineMemory) {
    this.#memory = memory;
  }

  /** Has all ranks do something. Throws what that meets. Returns whether it came to its end: false where it was stopped. */
  async lead(what: RankCommand): Promise<boolean> {
    encodeCommand(what, this.#memory.rankCommand);
    await this.#command(command.lead);
    return this.#memory.control[control.status] !== status.aborted;
  }

  /** Asks for something that takes and gives a value. Throws what that meets. */
  async request<T>(what: number, value: unknown): Promise<T> {
    putMessage(this.#memory, value);
    await this.#command(what);
    return takeMessage<T>(this.#memory);
  }

  /** Asks the thread to end; nobody waits for an answer. */
  close(): void {
    this.#announce(command.close);
  }

  /** Answers in place of a thread that failed, which may have done so before it saw what it was asked. */
  answerFailed(reason: string): void {
    putMessage(this.#memory, { code: "ENGINE_FAILED", values: { reason } });
    this.#answer(status.failed);
  }

  /** Answers in place of a thread that was closed. */
  answerStopped(): void {
    this.#answer(status.aborted);
  }

  async #command(what: number): Promise<void> {
    const { control: cells } = this.#memory;
    const before = Atomics.load(cells, control.response);
    this.#announce(what);
    // The call that announced the response before may come late, and wake this wait instead.
    while (Atomics.load(cells, control.response) === before) {
      const waiting = Atomics.waitAsync(cells, control.response, before);
      if (waiting.async) await waiting.value;
    }
    if (cells[control.status] === status.failed) throw engineFailure(this.#memory);
  }

  #announce(what: number): void {
    const { control: cells } = this.#memory;
    cells[control.command] = what;
    Atomics.add(cells, control.request, 1);
    Atomics.notify(cells, control.request);
  }

  #answer(how: number): void {
    const { control: cells } = this.#memory;
    cells[control.status] = how;
    Atomics.add(cells, control.response, 1);
    Atomics.notify(cells, control.response);
  }
}

/** What the engine thread says that it met. */
export function engineFailure(memory: EngineMemory): StelliumError {
  const { code, values } = takeMessage<ErrorFacts>(memory);
  return new StelliumError(code, values);
}
