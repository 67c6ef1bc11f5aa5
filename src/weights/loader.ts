import { closeSync, openSync, readSync } from "node:fs";
import { reasonOf, StelliumError } from "../errors.ts";
import { type Buffer, type Ggml, openGgml, type Pointer } from "../native/ggml.ts";
import { dropCache, readAhead, viewNative } from "../native/memory.ts";
import type { TensorTypeName } from "./gguf/types.ts";
import { describingContext, newTensor } from "./layout.ts";

/** A piece of a tensor to be read from a file into its place. Plain data: it crosses threads. */
export interface LoadTask {
  readonly path: string;
  readonly offset: number;
  /** Bytes to read. */
  readonly bytes: number;
  /** Where it belongs, in `buffer`. */
  readonly address: Pointer;
  readonly buffer: Buffer;
  /** Whether the system's cache is to keep what was read; otherwise nothing is read ahead, either. */
  readonly cached: boolean;
  /** Present where only some columns are wanted: of each row read, so many bytes from an offset on. */
  readonly columns?: { readonly rowBytes: number; readonly offset: number; readonly bytes: number };
  /** Absent where the bytes go into place as they are. */
  readonly convert?: { readonly type: TensorTypeName; readonly shape: readonly number[] };
}

/**
 * What those who load share, as indices into an `Int32Array`: the next task, 1 where loading is to stop, what was loaded, and
 * 1 as soon as the thread that receives native code's log has loaded the libraries.
 */
export const loadCounter = { nextTask: 0, stop: 1, mebibytes: 2, libraries: 3, length: 4 } as const;

/** What is read ahead while threads and libraries are still starting: a fast disk delivers as much meanwhile. */
const firstBytes = 192 * 2 ** 20;

/** Has the system begin to read a file of weights. Says nothing where it cannot be read: loading will. */
export function beginReading(path: string): void {
  try {
    const descriptor = openSync(path, "r");
    readAhead(descriptor, 0, firstBytes);
    closeSync(descriptor);
  } catch {
    return;
  }
}

/** Loaders read in turns, here and there, so the disk is told early what comes next. */
const tasksAhead = 32;

/** Works off tasks that no other loader has taken, until there are none, or `stop` is set. */
export function loadWeights(tasks: readonly LoadTask[], counters: Int32Array): void {
  using files = new OpenFiles();
  const ggml = openGgml();
  const staging = new Staging();
  let uncounted = 0;
  for (let index = take(counters); index < tasks.length; index = take(counters)) {
    const task = tasks[index]!;
    const ahead = tasks[index + tasksAhead];
    if (ahead?.cached) files.readAhead(ahead.path, ahead.offset, ahead.bytes);
    load(ggml, files, staging, task);
    uncounted += task.bytes;
    const mebibytes = Math.floor(uncounted / 2 ** 20);
    uncounted -= mebibytes * 2 ** 20;
    Atomics.add(counters, loadCounter.mebibytes, mebibytes);
  }
}

function load(ggml: Ggml, files: OpenFiles, staging: Staging, task: LoadTask): void {
  const { path, offset, bytes, columns, convert } = task;
  const direct = columns === undefined && convert === undefined;
  const read = direct ? viewNative(task.address, bytes) : staging.room(bytes);
  files.read(path, offset, read);
  if (!task.cached) files.forget(path, offset, bytes);
  const wanted = columns === undefined ? read : gathered(read, columns);
  if (convert !== undefined) convertInto(ggml, task, wanted);
  else if (!direct) viewNative(task.address, wanted.length).set(wanted);
}

/** Moves the wanted columns of each row together, to the front. */
function gathered(rows: Uint8Array, { rowBytes, offset, bytes }: NonNullable<LoadTask["columns"]>): Uint8Array {
  const count = rows.length / rowBytes;
  for (let row = 0; row < count; row++) {
    const start = row * rowBytes + offset;
    rows.copyWithin(row * bytes, start, start + bytes);
  }
  return rows.subarray(0, count * bytes);
}

/** Memory for bytes on their way, as large as the largest task needs. */
class Staging {
  #bytes = new Uint8Array(0);

  room(bytes: number): Uint8Array {
    if (this.#bytes.length < bytes) this.#bytes = new Uint8Array(bytes);
    return this.#bytes.subarray(0, bytes);
  }
}

/** Index of the next task, or Infinity where all are to stop. */
function take(counters: Int32Array): number {
  if (Atomics.load(counters, loadCounter.stop) !== 0) return Infinity;
  return Atomics.add(counters, loadCounter.nextTask, 1);
}

/** ggml converts whole tensors only: rows of one are a tensor of their own, placed where they belong. */
function convertInto(ggml: Ggml, { address, buffer, convert }: LoadTask, bytes: Uint8Array): void {
  const context = describingContext(ggml, 1);
  try {
    const part = newTensor(ggml, context, convert!, convert!.shape[1] ?? 1);
    ggml.placeTensor(buffer, part, address);
    ggml.setTensor(part, bytes, 0, bytes.length);
  } finally {
    ggml.free(context);
  }
}

/** Files opened at their first read. */
class OpenFiles implements Disposable {
  readonly #descriptors = new Map<string, number>();

  readAhead(path: string, offset: number, bytes: number): void {
    this.#orUnreadable(path, () => readAhead(this.#open(path), offset, bytes));
  }

  read(path: string, offset: number, target: Uint8Array): void {
    this.#orUnreadable(path, () => {
      for (let done = 0; done < target.length; ) {
        const read = readSync(this.#open(path), target, done, target.length - done, offset + done);
        if (read === 0) throw new Error(`it ends at byte ${offset + done}`);
        done += read;
      }
    });
  }

  /** Has the system's cache keep nothing of what was read. */
  forget(path: string, offset: number, bytes: number): void {
    dropCache(this.#open(path), offset, bytes);
  }

  #orUnreadable(path: string, action: () => void): void {
    try {
      action();
    } catch (error) {
      throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
    }
  }

  #open(path: string): number {
    let descriptor = this.#descriptors.get(path);
    if (descriptor === undefined) {
      descriptor = openSync(path, "r");
      this.#descriptors.set(path, descriptor);
    }
    return descriptor;
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor);
  }
}
