import { endBySignal } from "./endBySignal.ts";

/** Signals that end the program, and the exit codes that tell so. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * What ends a command from outside: Ctrl-C, a request to terminate, a reader of stdout that left.
 * Commands pass `signal` on and clean up as it is aborted; a further Ctrl-C does not wait for that.
 */
export class Interruption {
  readonly #whole = new AbortController();
  #part: AbortController | undefined;
  #exitCode: number | undefined;

  /** Aborted when the whole command is to end. */
  get signal(): AbortSignal {
    return this.#whole.signal;
  }

  /** The exit code of a command that was ended from outside; undefined if none was. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** Starts to listen. */
  listen(): void {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => this.#receive(name));
    process.stdout.on("error", (error) => this.#stdoutFailed(error));
  }

  /** Runs `action` so that the first Ctrl-C stops it alone. */
  async part<T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const part = new AbortController();
    this.#part = part;
    try {
      return await action(AbortSignal.any([part.signal, this.signal]));
    } finally {
      this.#part = undefined;
    }
  }

  /** What was ended from outside has come to an end in order, which is what it was asked for: the exit code is 0. */
  settle(): void {
    if (this.#exitCode !== undefined) this.#exitCode = 0;
  }

  #receive(name: keyof typeof exitCodes): void {
    if (this.signal.aborted) endBySignal(name);
    else if (name === "SIGINT" && this.#part?.signal.aborted === false) this.#part.abort(name);
    else this.#end(exitCodes[name], name);
  }

  /** A reader that has seen enough, as in `| head`, is no failure. */
  #stdoutFailed(error: NodeJS.ErrnoException): void {
    if (this.signal.aborted) return;
    const left = error.code === "EPIPE";
    if (!left) process.stderr.write(`stellium: cannot write to stdout: ${error.message}. Check where it goes.\n`);
    this.#end(left ? 0 : 1, "stdout is closed");
  }

  #end(exitCode: number, reason: string): void {
    this.#exitCode ??= exitCode;
    this.#whole.abort(reason);
  }
}
