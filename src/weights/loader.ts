import { type Ggml, openGgml } from "../native/ggml.ts";
import { allocatePages, type NativeMemory, viewNative } from "../native/memory.ts";
import { type RepackPlace, repackRows } from "./repack.ts";
import { gatherColumns, type RowColumns, type TensorPart } from "./slice.ts";
import { directMargin, type FileRange, WeightFile } from "./weightFile.ts";

/** Rows of a tensor, and the place in memory where they belong. Plain data: it crosses threads. */
export interface LoadTask extends FileRange, RepackPlace {
  /** Absent if all columns are wanted. */
  readonly columns?: RowColumns;
  /** The part they are rows of, to be brought into the layout of `buffer`; absent if the bytes stay as they are. */
  readonly repack?: { readonly part: TensorPart; readonly rows: number };
}

/** Files that weights are loaded from. Plain data: it crosses threads. */
export interface LoadFiles {
  readonly paths: readonly string[];
  /** Whether the system's cache may keep what was read, for another start. */
  readonly cached: boolean;
}

/**
 * What loaders share, as indices into an `Int32Array`: the next task, 1 if loading is to stop, how much was loaded, and 1 as
 * soon as the thread that receives native code's log has loaded the libraries.
 */
export const loadCounter = { nextTask: 0, stop: 1, mebibytes: 2, libraries: 3, length: 4 } as const;

const roomBytes = 8 * 2 ** 20;
/** Bytes that one task reads if its layout can be made in parts: enough for a disk to reach its full speed. */
export const taskBytes = roomBytes - directMargin;

/** Loaders take turns, so their reads are scattered: the system is told this many tasks ahead what comes next. */
const tasksAhead = 32;

/** A disk is slow if a loader waits for it this share of the time, although it is read ahead. */
const slowShare = 0.6;
/** The disk is judged after this time. */
const judgedMs = 1000;

/** Does tasks that no other loader has taken, until none are left or `stop` is set. Rejects with `FILE_UNREADABLE`. */
export async function loadWeights(files: LoadFiles, tasks: readonly LoadTask[], counters: Int32Array): Promise<void> {
  using loader = new Loader(files, tasks, counters);
  await loader.run();
}

/** A task that was taken. */
interface Taken {
  readonly task: LoadTask;
  /** Its bytes, once they are read; undefined if they are too many to be read ahead. */
  readonly bytes: Promise<Uint8Array | undefined> | undefined;
}

/** Brings what it has read into place while the next bytes are read. */
class Loader implements Disposable {
  readonly #paths: readonly string[];
  readonly #cached: boolean;
  readonly #tasks: readonly LoadTask[];
  readonly #counters: Int32Array;
  readonly #ggml = openGgml();
  readonly #files = new Map<number, WeightFile>();
  readonly #rooms = [new Room(), new Room()];
  /** For what is too large to be read ahead. */
  readonly #largeRoom = new Room();
  readonly #pace = new Pace();
  #taken = 0;
  #uncounted = 0;

  constructor({ paths, cached }: LoadFiles, tasks: readonly LoadTask[], counters: Int32Array) {
    this.#paths = paths;
    this.#cached = cached;
    this.#tasks = tasks;
    this.#counters = counters;
  }

  async run(): Promise<void> {
    let next = this.#take();
    try {
      while (next !== undefined) {
        const { task } = next;
        const bytes = await this.#pace.waitFor(next.bytes ?? this.#read(task, this.#largeRoom));
        next = this.#take();
        if (bytes !== undefined) place(this.#ggml, task, bytes);
        this.#count(task.bytes);
      }
    } finally {
      // The room that it is read into is about to be freed.
      await next?.bytes?.catch(() => {});
    }
  }

  [Symbol.dispose](): void {
    for (const file of this.#files.values()) file[Symbol.dispose]();
    for (const room of [...this.#rooms, this.#largeRoom]) room[Symbol.dispose]();
  }

  /** Takes the next task and begins to read it. */
  #take(): Taken | undefined {
    if (Atomics.load(this.#counters, loadCounter.stop) !== 0) return undefined;
    const index = Atomics.add(this.#counters, loadCounter.nextTask, 1);
    const task = this.#tasks[index];
    if (task === undefined) return undefined;
    this.#readAhead(this.#tasks[index + tasksAhead]);
    if (task.bytes > taskBytes) return { task, bytes: undefined };
    return { task, bytes: this.#read(task, this.#rooms[this.#taken++ % 2]!) };
  }

  /** Asks the system to begin reading what will be read through its cache. */
  #readAhead(task: LoadTask | undefined): void {
    if (task === undefined || !this.#cached) return;
    const file = this.#file(task.file);
    if (this.#pace.isSlow || !file.isDirect) file.readAhead(task.offset, task.bytes);
  }

  /** The bytes of a task, in `room`; undefined if they were read directly into place. */
  async #read(task: LoadTask, room: Room): Promise<Uint8Array | undefined> {
    const { offset, bytes } = task;
    const file = this.#file(task.file);
    if (!this.#cached || !(this.#pace.isSlow || file.isCached(offset))) {
      const read = await file.readDirectly(offset, bytes, room.view(bytes + directMargin));
      if (read !== undefined) return read;
    }
    const target = staysAsItIs(task) ? viewNative(task.address, bytes) : room.view(bytes);
    await file.read(offset, target);
    return staysAsItIs(task) ? undefined : target;
  }

  #file(index: number): WeightFile {
    let file = this.#files.get(index);
    if (file === undefined) {
      file = new WeightFile(this.#paths[index]!, this.#cached);
      this.#files.set(index, file);
    }
    return file;
  }

  #count(bytes: number): void {
    this.#uncounted += bytes;
    const mebibytes = Math.floor(this.#uncounted / 2 ** 20);
    this.#uncounted -= mebibytes * 2 ** 20;
    Atomics.add(this.#counters, loadCounter.mebibytes, mebibytes);
  }
}

/**
 * Measures whether loading waits for the disk. A slow disk leaves time to fill the system's cache, which makes the next start
 * faster. With a fast disk the cores are the limit: filling the cache would cost as much as everything else, and the next
 * start would gain little.
 */
class Pace {
  readonly #started = performance.now();
  #waitedMs = 0;
  #slow = false;

  /** Stays true: reads through the cache, ahead of time, no longer show how fast the disk is. */
  get isSlow(): boolean {
    return this.#slow;
  }

  async waitFor<T>(read: Promise<T>): Promise<T> {
    const begun = performance.now();
    const result = await read;
    const now = performance.now();
    this.#waitedMs += now - begun;
    const passed = now - this.#started;
    if (passed > judgedMs && this.#waitedMs > slowShare * passed) this.#slow = true;
    return result;
  }
}

/** Memory for bytes between the file and their place. */
class Room implements Disposable {
  #memory: NativeMemory | undefined;

  view(bytes: number): Uint8Array {
    if (this.#memory === undefined || this.#memory.bytes < bytes) {
      this[Symbol.dispose]();
      this.#memory = allocatePages(Math.max(bytes, roomBytes));
    }
    return this.#memory.view.subarray(0, bytes);
  }

  [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
    this.#memory = undefined;
  }
}

function staysAsItIs({ columns, repack }: LoadTask): boolean {
  return columns === undefined && repack === undefined;
}

function place(ggml: Ggml, task: LoadTask, bytes: Uint8Array): void {
  const { columns, repack, address } = task;
  const rows = columns === undefined ? bytes : gatherColumns(bytes, columns);
  if (repack === undefined) viewNative(address, rows.length).set(rows);
  else repackRows(ggml, repack.part, repack.rows, rows, task);
}
