import { closeSync, renameSync, rmSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import { openNew, unfinishedPath, writeAll } from "../system/outputFile.ts";

// A routing record is a file of JSON lines: a header, then one line per layer and pass with the experts its tokens used.

/** Layers with experts, experts in each layer, and experts used per token. */
export interface RoutingFacts {
  readonly layers: readonly number[];
  readonly experts: number;
  readonly used: number;
}

/** The experts used by consecutive tokens in one layer. */
export interface RoutingChoice {
  readonly layer: number;
  /** `used` ids per token, token by token. */
  readonly ids: ArrayLike<number>;
}

/** Records the experts of each pass. */
export interface RoutingRecorder extends Disposable {
  /** Adds a choice to the current pass; see `RoutingChoice`. */
  choose(layer: number, ids: ArrayLike<number>): void;
  /** Ends the pass: writes its choices if it `counts`, drops them if it was stopped or will be repeated. Throws `FILE_UNWRITABLE`. */
  end(counts: boolean): void;
}

/** Records nothing. */
export const noRouting: RoutingRecorder = { choose() {}, end() {}, [Symbol.dispose]() {} };

export const routingFormat = { format: "stellium-routing", version: 1 } as const;

/**
 * Starts a routing record. Disposing the recorder gives the file its final name. Throws `FILE_UNWRITABLE`.
 *
 * @param path - as `outputPath` returns it
 */
export function recordRouting(path: string, facts: RoutingFacts): RoutingRecorder {
  return new RoutingFile(path, facts);
}

class RoutingFile implements RoutingRecorder {
  readonly #path: string;
  readonly #file: number;
  #pending: string[] = [];
  #empty = true;

  constructor(path: string, { layers, experts, used }: RoutingFacts) {
    this.#path = path;
    this.#file = this.#attempt(() => openNew(unfinishedPath(path), 0o666));
    this.#write([JSON.stringify({ ...routingFormat, layers, experts, used })]);
  }

  choose(layer: number, ids: ArrayLike<number>): void {
    this.#pending.push(JSON.stringify({ layer, ids: Array.from(ids) }));
  }

  end(counts: boolean): void {
    if (counts) this.#write(this.#pending);
    this.#empty &&= !counts;
    this.#pending = [];
  }

  /** Keeps an existing file if no pass was recorded. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    const unfinished = unfinishedPath(this.#path);
    if (this.#empty) rmSync(unfinished, { force: true });
    else this.#attempt(() => renameSync(unfinished, this.#path));
  }

  #write(lines: readonly string[]): void {
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    this.#attempt(() => writeAll(this.#file, bytes));
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw new StelliumError("FILE_UNWRITABLE", { path: this.#path, reason: reasonOf(error) }, { cause: error });
    }
  }
}
