import { type Buffer, type Ggml, openGgml, type Pointer } from "../native/ggml.ts";
import { allocatePages, type NativeMemory, viewNative } from "../native/memory.ts";
import type { TensorTypeName } from "../native/tensorTypes.ts";
import { describingContext, newTensor } from "./layout.ts";
import { directMargin, LoadFile } from "./loadFile.ts";

/** A piece of a tensor to be read from a file into its place. Plain data: it crosses threads. */
export interface LoadTask {
  readonly path: string;
  readonly offset: number;
  /** Bytes to read. */
  readonly bytes: number;
  /** Where it belongs, in `buffer`. */
  readonly address: Pointer;
  readonly buffer: Buffer;
  /** Whether the system's cache may keep what was read, for another start. */
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

const roomBytes = 8 * 2 ** 20;
/** Bytes that one load task reads where its layout can be brought about in parts: enough for a disk to be at its best. */
export const taskBytes = roomBytes - directMargin;

/** Loaders read in turns, here and there, so the disk is told early what comes next. */
const tasksAhead = 32;

/** Slow is a disk that a loader waits for most of the time, although it is read ahead. Judged when so much has passed. */
const slowShare = 0.6;
const judgedMs = 1000;

/** Works off tasks that no other loader has taken, until there are none, or `stop` is set. Rejects with `FILE_UNREADABLE`. */
export async function loadWeights(tasks: readonly LoadTask[], counters: Int32Array): Promise<void> {
  using loader = new Loader(tasks, counters);
  await loader.run();
}

/** A task that was taken. */
interface Taken {
  readonly task: LoadTask;
  /** Its bytes, on their way; undefined where they are too many to be read ahead. */
  readonly bytes: Promise<Uint8Array | undefined> | undefined;
}

/** Brings what it has read into place while the next bytes are read. */
class Loader implements Disposable {
  readonly #tasks: readonly LoadTask[];
  readonly #counters: Int32Array;
  readonly #ggml = openGgml();
  readonly #files = new Map<string, LoadFile>();
  readonly #rooms = [new Room(), new Room()];
  /** For what is too large to be read ahead. */
  readonly #largeRoom = new Room();
  readonly #pace = new Pace();
  #taken = 0;
  #uncounted = 0;

  constructor(tasks: readonly LoadTask[], counters: Int32Array) {
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

  /** Has the system begin to read what will be read through its cache. */
  #readAhead(task: LoadTask | undefined): void {
    if (!task?.cached) return;
    const file = this.#file(task.path);
    if (this.#pace.isSlow || !file.isDirect) file.readAhead(task.offset, task.bytes);
  }

  /** The bytes of a task, in `room`; undefined where they were read into place. */
  async #read(task: LoadTask, room: Room): Promise<Uint8Array | undefined> {
    const { path, offset, bytes, cached } = task;
    const file = this.#file(path);
    if (!cached || !(this.#pace.isSlow || file.isCached(offset))) {
      const read = await file.readDirectly(offset, bytes, room.view(bytes + directMargin));
      if (read !== undefined) return read;
    }
    const target = staysAsItIs(task) ? viewNative(task.address, bytes) : room.view(bytes);
    await file.read(offset, target);
    if (!cached) file.forget(offset, bytes);
    return staysAsItIs(task) ? undefined : target;
  }

  #file(path: string): LoadFile {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = new LoadFile(path);
      this.#files.set(path, file);
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
 * Finds out whether the disk is what loading waits for. A slow one leaves time to fill the system's cache, and the next start is
 * faster for it. Beside a fast one cores are the limit: filling the cache would cost them as much as all else, and the next
 * start gain little.
 */
class Pace {
  readonly #started = performance.now();
  #waitedMs = 0;
  #slow = false;

  /** Stays true: what is read through the cache, ahead of time, says nothing of the disk. */
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

/** Memory for bytes on their way. */
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

function staysAsItIs({ columns, convert }: LoadTask): boolean {
  return columns === undefined && convert === undefined;
}

function place(ggml: Ggml, task: LoadTask, bytes: Uint8Array): void {
  const wanted = task.columns === undefined ? bytes : gathered(bytes, task.columns);
  if (task.convert !== undefined) convertInto(ggml, task, wanted);
  else viewNative(task.address, wanted.length).set(wanted);
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
