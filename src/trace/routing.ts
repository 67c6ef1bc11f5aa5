import { closeSync, renameSync, rmSync, writeSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import { openNew, unfinishedPath } from "../system/outputFile.ts";

// A routing record tells which experts the tokens of a text were given: a file of JSON lines, of which the first is the
// head, and each other one a choice. They are in the order in which they were made.

/** Layers with experts, experts of each, and how many of them a token gets. */
export interface RoutingFacts {
  readonly layers: readonly number[];
  readonly experts: number;
  readonly used: number;
}

/** What some tokens were given in one layer. */
export interface RoutingChoice {
  readonly layer: number;
  /** `used` experts of each token, one token after the other. */
  readonly ids: ArrayLike<number>;
}

/** Takes down which experts are chosen. */
export interface RoutingRecorder extends Disposable {
  /** What tokens of the current pass were given: `ids` as in `RoutingChoice`. */
  choose(layer: number, ids: ArrayLike<number>): void;
  /** The pass is over, and counts; or is done again, or was stopped. Throws `FILE_UNWRITABLE`. */
  end(counts: boolean): void;
}

/** For when nothing is taken down. */
export const noRouting: RoutingRecorder = { choose() {}, end() {}, [Symbol.dispose]() {} };

/** What the head of a record begins with. */
export const routingFormat = { format: "stellium-routing", version: 1 } as const;

/**
 * Begins a routing record. The file gets its name when the recorder is disposed of. Throws `FILE_UNWRITABLE`.
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

  /** Where nothing was taken down, what was there before stays. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    const unfinished = unfinishedPath(this.#path);
    if (this.#empty) rmSync(unfinished, { force: true });
    else this.#attempt(() => renameSync(unfinished, this.#path));
  }

  #write(lines: readonly string[]): void {
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    this.#attempt(() => {
      for (let written = 0; written < bytes.length; ) written += writeSync(this.#file, bytes, written);
    });
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw new StelliumError("FILE_UNWRITABLE", { path: this.#path, reason: reasonOf(error) }, { cause: error });
    }
  }
}
