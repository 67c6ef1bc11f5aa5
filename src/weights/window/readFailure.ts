import { type ErrorFacts, reasonOf, StelliumError } from "../../errors.ts";

/** Shared memory in which one of several readers leaves why it could not read. */
export interface ReadFailure {
  /** See `cell`. */
  readonly cells: Int32Array;
  /** UTF-8 JSON */
  readonly text: Uint8Array;
}

/** `state` is 0, 1 while a reader writes, and 2 when the text can be read. */
const cell = { state: 0, bytes: 1, length: 2 } as const;
const written = 2;
const textBytes = 8192;

/** Allocates the memory for a failure. */
export function readFailure(): ReadFailure {
  const shared = (bytes: number) => new SharedArrayBuffer(bytes);
  return { cells: new Int32Array(shared(4 * cell.length)), text: new Uint8Array(shared(textBytes)) };
}

/** Writes a failure, unless there is one that nobody has cleared. */
export function putFailure({ cells, text }: ReadFailure, error: unknown): void {
  if (Atomics.compareExchange(cells, cell.state, 0, 1) !== 0) return;
  const { code, values } =
    error instanceof StelliumError ? error : new StelliumError("ENGINE_FAILED", { reason: reasonOf(error) });
  cells[cell.bytes] = new TextEncoder().encodeInto(JSON.stringify({ code, values }), text).written;
  Atomics.store(cells, cell.state, written);
}

/** True from the moment a reader begins to write. */
export function hasFailed({ cells }: ReadFailure): boolean {
  return Atomics.load(cells, cell.state) !== 0;
}

/** The failure, or undefined if there is none. */
export function readerFailure({ cells, text }: ReadFailure): StelliumError | undefined {
  if (Atomics.load(cells, cell.state) !== written) return undefined;
  const { code, values } = JSON.parse(new TextDecoder().decode(text.slice(0, cells[cell.bytes]))) as ErrorFacts;
  return new StelliumError(code, values);
}

/** Forgets a failure, so that the next one can be written. */
export function clearFailure({ cells }: ReadFailure): void {
  Atomics.store(cells, cell.state, 0);
}
