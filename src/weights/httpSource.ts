import { StelliumError } from "../errors.ts";
import type { ByteSource } from "./byteSource.ts";
import {
  type AttemptOptions,
  attemptDefaults,
  Misled,
  Passing,
  persist,
  requestOnce,
  type Silence,
} from "./httpAttempts.ts";
import { changeOf, rangeOf, refusal, type Version, versionOf } from "./httpRange.ts";

/** How an URL is read; see `AttemptOptions`. Default: 6 attempts, 250 ms before the second one, 30 s of patience. */
export interface HttpOptions extends Given<AttemptOptions> {
  /** Whether a server may answer with the whole file where a range was asked for: then what comes before it is skipped. */
  readonly wholeFiles?: boolean;
  /** The error for a response that is none of the file, where it means more than that there is no such file. */
  readonly refuse?: (response: Response) => Error | undefined;
}

type Given<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** A file behind an URL. */
export interface UrlSource extends ByteSource {
  /** Which version of the file it is. */
  readonly version: Version;
  /**
   * Reads from `offset` to the end, piece by piece: the next one is fetched when `sink` has taken the one before. Pieces
   * follow on each other, also where connections break in between. Goes on until `attempts` in a row bring nothing.
   */
  stream(offset: number, sink: (piece: Uint8Array) => Promise<void>, attempts?: number): Promise<void>;
}

type Sink = (piece: Uint8Array) => void | Promise<void>;

/**
 * Opens an `http://` or `https://` URL as a `ByteSource`, read by Range requests, one for each `read` that nothing goes
 * wrong with. Cut connections are taken up where they broke. Throws `URL_UNREADABLE` (also for servers that do not
 * answer Range requests), `URL_CHANGED` where the file is no longer the one that was opened, `ABORTED`.
 */
export async function openUrl(url: string, options: HttpOptions = {}): Promise<UrlSource> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const source = new HttpSource(url, { ...attemptDefaults, ...Object.fromEntries(given) });
  await source.open();
  return source;
}

class HttpSource implements UrlSource {
  readonly name: string;
  #version: Version | undefined;
  readonly #options: HttpOptions & AttemptOptions;
  readonly #closing = new AbortController();
  /** Where redirects led; signed addresses expire, and then the way starts at `name` again. */
  #address: string;

  constructor(url: string, options: HttpOptions & AttemptOptions) {
    const { signal } = this.#closing;
    this.name = url;
    this.#address = url;
    this.#options = { ...options, signal: options.signal ? AbortSignal.any([options.signal, signal]) : signal };
  }

  get size(): number {
    return this.version.size;
  }

  get version(): Version {
    return this.#version!;
  }

  /** Asks for the first byte: unlike HEAD, it tells whether ranges are answered, and signed addresses allow it. */
  async open(): Promise<void> {
    await this.#read(0, 1, () => {});
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || length < 0 || offset + length > this.size) throw this.#unreadable(`it ends at byte ${this.size}`);
    const bytes = new Uint8Array(length);
    let done = 0;
    await this.#read(offset, length, (piece) => {
      bytes.set(piece, done);
      done += piece.length;
    });
    return bytes;
  }

  async stream(offset: number, sink: Sink, attempts = this.#options.attempts): Promise<void> {
    await this.#read(offset, this.size - offset, sink, attempts);
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("it was closed"));
  }

  async #read(offset: number, length: number, sink: Sink, attempts = this.#options.attempts): Promise<void> {
    let done = 0;
    const counted: Sink = (piece) => {
      done += piece.length;
      return sink(piece);
    };
    const attempt = () => this.#attempt(offset + done, length - done, counted);
    try {
      if (length > 0) await persist({ ...this.#options, attempts }, attempt, () => done);
    } catch (error) {
      if (this.#closing.signal.aborted) throw this.#unreadable("it was closed", error);
      throw error instanceof Passing || error instanceof Misled ? this.#unreadable(error.message, error) : error;
    }
  }

  /** One request. Pieces that came before it failed are kept. */
  async #attempt(offset: number, length: number, sink: Sink): Promise<void> {
    // An encoded body would have other bytes than the range that was asked for.
    const headers = { range: `bytes=${offset}-${offset + length - 1}`, "accept-encoding": "identity" };
    try {
      await requestOnce(this.#address, { headers }, this.#options, async (response, address, silence) => {
        this.#address = address;
        const skipped = this.#check(response, offset, length);
        await this.#consume(response, skipped, length, sink, silence);
      });
    } catch (error) {
      if (error instanceof Passing) this.#address = this.name;
      throw error;
    }
  }

  /** Checks a response to be what was asked for of the file that was opened. Returns the bytes that come before that. */
  #check(response: Response, offset: number, length: number): number {
    const whole = response.status === 200 && this.#options.wholeFiles === true;
    if (!whole) this.#checkStatus(response);
    const version = whole ? versionOf(response) : rangeOf(response, offset, length);
    if (typeof version === "string") throw this.#unreadable(version);
    const change = this.#version && changeOf(this.#version, version);
    if (change) throw new StelliumError("URL_CHANGED", { url: this.name, reason: change });
    this.#version ??= version;
    return whole ? offset : 0;
  }

  /** Hands on `length` bytes of a body, after `skipped` ones. A whole file is left where they end. */
  async #consume(response: Response, skipped: number, length: number, sink: Sink, silence: Silence): Promise<void> {
    const mayGoOn = response.status === 200;
    let [skip, done] = [skipped, 0];
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      silence.end();
      const piece = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - piece.length;
      if (piece.length > length - done && !mayGoOn) throw this.#unreadable("it sends more than it was asked for");
      const wanted = piece.subarray(0, length - done);
      if (wanted.length > 0) await sink(wanted);
      done += wanted.length;
      if (done === length && mayGoOn) return;
      silence.begin();
    }
    if (done < length) throw new Passing(`the connection ended after ${done} of ${length} bytes`);
  }

  #checkStatus(response: Response): void {
    const redirected = this.#address !== this.name;
    const refused = refusal(response, redirected);
    if (refused === undefined) return;
    if (refused.passing) throw new Passing(refused.reason, refused.wait);
    throw this.#options.refuse?.(response) ?? this.#unreadable(refused.reason);
  }

  #unreadable(reason: string, cause?: unknown): StelliumError {
    return new StelliumError("URL_UNREADABLE", { url: this.name, reason }, { cause });
  }
}
