import type { ByteSource } from "./byteSource.ts";
import type { BlockSource } from "./obtainSlice.ts";
import type { TensorSlice } from "./slice.ts";
import { readSlice, readSlices } from "./sliceReader.ts";

/** How ranks read together. Times in milliseconds. */
export interface SharingOptions {
  /** Ranks that may read. */
  readonly readers: number;
  /**
   * Whether what several ranks need is read once for all. Files on the disk may as well be read by each rank for itself,
   * which waits for no other then: the system keeps what was read. Default true.
   */
  readonly shared?: boolean;
  /** How long the first rank waits for others before it starts. Default 2 s. */
  readonly grace?: number;
  /** How long a rank that is ahead waits for one that gets no further. Default 20 s. */
  readonly patience?: number;
}

/** Cuts the blocks of one rank's slice. */
export interface BlockReader extends BlockSource, Disposable {}

interface Place {
  /** The block that is being read. */
  block: number;
  /** Whether the others do not wait for it any more. */
  late: boolean;
}

/**
 * Lets ranks cut their slices out of the same files at the same time. Where ranks have columns of the same rows, each
 * of them needs the whole rows: these are read once for all. To that end nobody starts a block before the others have
 * come to the one before, so that what is kept is two blocks' matrices of that kind, at most.
 */
export class SharedReading {
  readonly #sources: readonly ByteSource[];
  readonly #options: Required<SharingOptions>;
  readonly #places = new Set<Place>();
  readonly #bands = new Map<string, { block: number; bytes: Promise<Uint8Array> }>();
  readonly #opened = deferred();
  #started: Promise<unknown> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #moved = deferred();

  constructor(sources: readonly ByteSource[], options: SharingOptions) {
    this.#sources = sources;
    this.#options = { shared: true, grace: 2000, patience: 20_000, ...options };
  }

  /** Lets reading begin: all ranks that will read are known now. */
  open(): void {
    this.#opened.resolve();
  }

  /** Has everyone who is to read one more block fail. */
  fail(error: unknown): void {
    this.#failure = { error };
    this.#opened.resolve();
    this.#change();
  }

  /** @param blocks - the parts of tensors in each block of the rank's slice */
  join(blocks: readonly (readonly TensorSlice[])[]): BlockReader {
    const place: Place = { block: -1, late: false };
    this.#places.add(place);
    this.#change();
    const { shared } = this.#options;
    const read = (index: number) => this.#read(place, index, blocks[index]!);
    return {
      begin: async () => {},
      block: shared ? read : (index) => readSlices(this.#sources, blocks[index]!),
      [Symbol.dispose]: () => {
        this.#places.delete(place);
        this.#change();
      },
    };
  }

  async *#read(place: Place, index: number, slices: readonly TensorSlice[]): AsyncGenerator<Uint8Array> {
    await this.#turn(place, index);
    for (const slice of slices) {
      const whole = slice.columns.count === slice.tensor.shape[0];
      const source = whole ? this.#sources[slice.tensor.file]! : this.#sharedSource(index, slice.tensor.file);
      yield* readSlice(source, slice);
    }
  }

  async #turn(place: Place, index: number): Promise<void> {
    place.block = index;
    place.late = false;
    this.#change();
    await this.#opened.promise;
    this.#started ??= this.#everyone();
    await this.#started;
    for (let behind = this.#behind(index); behind.length > 0; behind = this.#behind(index)) {
      if (this.#failure !== undefined) break;
      const moved = await within(this.#moved.promise, this.#options.patience);
      if (!moved) for (const other of behind) other.late = true;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Waits until all may be here. Those that have their slice already will not come. */
  async #everyone(): Promise<void> {
    const { readers, grace } = this.#options;
    const deadline = performance.now() + grace;
    while (this.#places.size < readers && this.#failure === undefined && performance.now() < deadline) {
      await within(this.#moved.promise, deadline - performance.now());
    }
  }

  #behind(index: number): Place[] {
    return [...this.#places].filter(({ block, late }) => !late && block < index - 1);
  }

  #sharedSource(block: number, file: number): ByteSource {
    const source = this.#sources[file]!;
    const read = (offset: number, length: number) => {
      const key = `${file} ${offset} ${length}`;
      const known = this.#bands.get(key);
      if (known !== undefined) return known.bytes;
      const bytes = source.read(offset, length);
      this.#bands.set(key, { block, bytes });
      bytes.catch(() => this.#bands.delete(key));
      return bytes;
    };
    return { name: source.name, size: source.size, read, close: async () => {} };
  }

  /** Forgets what nobody will ask for again, and tells who waits. */
  #change(): void {
    const waitedFor = [...this.#places].filter(({ late }) => !late).map(({ block }) => block);
    const first = Math.min(...waitedFor);
    for (const [key, { block }] of this.#bands) if (block < first) this.#bands.delete(key);
    this.#moved.resolve();
    this.#moved = deferred();
  }
}

/** Whether a promise resolved in time. */
async function within(promise: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((onResolve) => {
    resolve = onResolve;
  });
  return { promise, resolve };
}
