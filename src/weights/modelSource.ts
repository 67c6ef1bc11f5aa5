import { type ByteSource, openFile } from "./byteSource.ts";
import type { GgufModel } from "./gguf/model.ts";
import { readGguf } from "./gguf/reader.ts";
import { type HttpOptions, openUrl } from "./httpSource.ts";
import { checkUrl, isUrl } from "./modelUrl.ts";
import { modelHash } from "./sliceIdentity.ts";

/** How a model behind an URL is asked for. */
export type RemoteOptions = Pick<HttpOptions, "signal" | "headers">;

/** A model and the files it is read from: on this device's disk, or behind an URL, of which it stores only parts. */
export class ModelSource implements AsyncDisposable {
  readonly model: GgufModel;
  readonly remote: boolean;
  readonly #beginnings: readonly BeginningKept[];
  readonly #opener: Opener;
  readonly #uncached = new Opener((path) => openFile(path, false));
  #hash: Promise<string> | undefined;

  /**
   * Reads a model's header; `name` is a path or an URL. Throws what `readGguf` and `openUrl` do, and `BAD_USAGE` for an
   * URL that should not be read.
   */
  static async open(name: string, remotely: RemoteOptions = {}): Promise<ModelSource> {
    const remote = isUrl(name);
    if (remote) checkUrl(name);
    const beginnings: BeginningKept[] = [];
    const opener = new Opener(remote ? (url) => openKept(url, remotely, beginnings) : (path) => openFile(path));
    try {
      return new ModelSource(await readGguf(name, opener.open), beginnings, opener);
    } catch (error) {
      await opener.close();
      throw error;
    }
  }

  private constructor(model: GgufModel, beginnings: readonly BeginningKept[], opener: Opener) {
    this.model = model;
    this.remote = beginnings.length > 0;
    this.#beginnings = beginnings;
    this.#opener = opener;
  }

  /**
   * The model's files, in order. They stay open until the source is disposed of.
   *
   * @param cached - whether the system's cache is to keep what was read of local ones
   */
  files(cached = true): Promise<ByteSource[]> {
    const opener = cached || this.remote ? this.#opener : this.#uncached;
    return Promise.all(this.model.files.map(opener.open));
  }

  /** See `modelHash`. */
  hash(): Promise<string> {
    this.#hash ??= modelHash(this.model, this.#opener.open);
    return this.#hash;
  }

  /** Frees the memory that headers of remote files are kept in, until they have been stored. */
  forgetHeaders(): void {
    for (const beginning of this.#beginnings) beginning.forget();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#opener.close(), this.#uncached.close()]);
  }
}

/** Opens each file once: all reads of an URL are of the version that was opened first. */
class Opener {
  readonly #open: (name: string) => Promise<ByteSource>;
  readonly #opened = new Map<string, Promise<ByteSource>>();

  constructor(open: (name: string) => Promise<ByteSource>) {
    this.#open = open;
  }

  /** A file that is not closed by who reads it. */
  readonly open = async (name: string): Promise<ByteSource> => {
    const opened = this.#opened.get(name) ?? this.#open(name);
    this.#opened.set(name, opened);
    const source = await opened;
    return { name, size: source.size, read: (offset, length) => source.read(offset, length), close: async () => {} };
  };

  async close(): Promise<void> {
    const opened = await Promise.allSettled(this.#opened.values());
    await Promise.all(opened.map((each) => (each.status === "fulfilled" ? each.value.close() : undefined)));
  }
}

async function openKept(url: string, options: RemoteOptions, all: BeginningKept[]): Promise<ByteSource> {
  const opened = new BeginningKept(await openUrl(url, options));
  all.push(opened);
  return opened;
}

/** Longest beginning that is kept. */
const keptBytes = 64 * 2 ** 20;

/** A file whose beginning is fetched once: its header is read for what it says, for its hash, and to be stored. */
class BeginningKept implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #source: ByteSource;
  /** Pieces that follow on each other from byte 0 on. */
  readonly #kept: Uint8Array[] = [];
  #end = 0;

  constructor(source: ByteSource) {
    this.name = source.name;
    this.size = source.size;
    this.#source = source;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset + length <= this.#end) return this.#fromKept(offset, length);
    const bytes = await this.#source.read(offset, length);
    if (offset === this.#end && this.#end + length <= keptBytes) {
      this.#kept.push(bytes.slice());
      this.#end += length;
    }
    return bytes;
  }

  /** What has been kept is fetched again from now on. */
  forget(): void {
    this.#kept.length = 0;
    this.#end = Number.NaN;
  }

  close(): Promise<void> {
    return this.#source.close();
  }

  #fromKept(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let start = 0;
    for (const piece of this.#kept) {
      const part = piece.subarray(Math.max(0, offset - start), Math.max(0, offset + length - start));
      if (part.length > 0) bytes.set(part, Math.max(0, start - offset));
      start += piece.length;
    }
    return bytes;
  }
}
