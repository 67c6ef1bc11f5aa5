import { setTimeout as sleep } from "node:timers/promises";
import { StelliumError } from "../errors.ts";
import type { ByteSource } from "./byteSource.ts";
import { changeOf, checkedRedirect, rangeOf, refusal, type Version } from "./httpRange.ts";

/** How an URL is read. Times in milliseconds. */
export interface HttpOptions {
  readonly signal?: AbortSignal | undefined;
  /** How often in a row a read may fail without having got further. Default 6. */
  readonly attempts?: number;
  /** Wait before the second attempt; each further wait is twice as long, up to 10 s. Default 250. */
  readonly backoff?: number;
  /** How long a server may send nothing. Default 30 s. */
  readonly patience?: number;
}

const defaults = { attempts: 6, backoff: 250, patience: 30_000 };
const longestWait = 10_000;
const mostRedirects = 10;
/** An attempt that brought so many bytes counts as progress: the failures before it are forgotten. */
const progressBytes = 64 * 2 ** 10;

/**
 * Opens an `http://` or `https://` URL as a `ByteSource`, read by Range requests, one for each `read` that nothing goes
 * wrong with. Cut connections are taken up where they broke. Throws `URL_UNREADABLE` (also for servers that do not
 * answer Range requests), `URL_CHANGED` where the file is no longer the one that was opened, `ABORTED`.
 */
export async function openUrl(url: string, options: HttpOptions = {}): Promise<ByteSource> {
  const source = new HttpSource(url, { ...defaults, ...definedOnly(options) });
  await source.open();
  return source;
}

function definedOnly<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** A failure after which another attempt may succeed. */
class Passing extends Error {
  readonly wait: number;

  constructor(reason: string, wait = 0, options?: ErrorOptions) {
    super(reason, options);
    this.wait = wait;
  }
}

class HttpSource implements ByteSource {
  readonly name: string;
  #version: Version | undefined;
  readonly #options: HttpOptions & typeof defaults;
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal;
  /** Where redirects led; signed addresses expire, and then the way starts at `name` again. */
  #address: string;

  constructor(url: string, options: HttpOptions & typeof defaults) {
    this.name = url;
    this.#options = options;
    this.#address = url;
    this.#signal = options.signal ? AbortSignal.any([options.signal, this.#closing.signal]) : this.#closing.signal;
  }

  get size(): number {
    return this.#version!.size;
  }

  /** Asks for the first byte: unlike HEAD, it tells whether ranges are answered, and signed addresses allow it. */
  async open(): Promise<void> {
    await this.#readTo(new Uint8Array(1), 0);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || length < 0 || offset + length > this.size) throw this.#unreadable(`it ends at byte ${this.size}`);
    const bytes = new Uint8Array(length);
    await this.#readTo(bytes, offset);
    return bytes;
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("it was closed"));
  }

  async #readTo(target: Uint8Array, offset: number): Promise<void> {
    const { attempts } = this.#options;
    for (let done = 0, failures = 0; done < target.length; ) {
      const before = done;
      try {
        await this.#attempt(target.subarray(done), offset + done, (count) => {
          done += count;
        });
      } catch (error) {
        if (!(error instanceof Passing)) throw error;
        failures = done - before >= progressBytes ? 1 : failures + 1;
        if (failures >= attempts) throw this.#unreadable(`${error.message} (after ${attempts} attempts)`, error);
        await this.#pause(failures, error);
      }
    }
  }

  /** One request. Bytes that came before it failed are kept. */
  async #attempt(target: Uint8Array, offset: number, onBytes: (count: number) => void): Promise<void> {
    const stalled = new AbortController();
    const signal = AbortSignal.any([this.#signal, stalled.signal]);
    const timer = setTimeout(() => stalled.abort(), this.#options.patience);
    try {
      const response = await this.#request(offset, target.length, signal);
      let done = 0;
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        timer.refresh();
        if (chunk.length > target.length - done) throw this.#unreadable("it sends more than it was asked for");
        target.set(chunk, done);
        done += chunk.length;
        onBytes(chunk.length);
      }
      if (done < target.length) throw new Passing(`the connection ended after ${done} of ${target.length} bytes`);
    } catch (error) {
      throw this.#explained(error, stalled.signal.aborted);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The response to a Range request, checked to be that range of the file that was opened. */
  async #request(offset: number, length: number, signal: AbortSignal): Promise<Response> {
    const response = await this.#followed(offset, length, signal);
    try {
      this.#checkStatus(response);
      const version = rangeOf(response, offset, length);
      if (typeof version === "string") throw this.#unreadable(version);
      const change = this.#version && changeOf(this.#version, version);
      if (change) throw new StelliumError("URL_CHANGED", { url: this.name, reason: change });
      this.#version ??= version;
      return response;
    } catch (error) {
      // A body that nobody reads would keep its connection.
      await response.body?.cancel().catch(() => {});
      throw error;
    }
  }

  async #followed(offset: number, length: number, signal: AbortSignal): Promise<Response> {
    // An encoded body would have other bytes than the range that was asked for.
    const headers = { range: `bytes=${offset}-${offset + length - 1}`, "accept-encoding": "identity" };
    for (let hops = 0, address = this.#address; hops <= mostRedirects; hops++) {
      const response = await fetch(address, { headers, signal, redirect: "manual" });
      const next = checkedRedirect(response, address);
      if (next === undefined) {
        this.#address = address;
        return response;
      }
      await response.body?.cancel();
      if (next instanceof Error) throw this.#unreadable(next.message);
      address = next;
    }
    throw this.#unreadable(`it redirects more than ${mostRedirects} times`);
  }

  #checkStatus(response: Response): void {
    const refused = refusal(response, this.#address !== this.name);
    if (refused === undefined) return;
    if (!refused.passing) throw this.#unreadable(refused.reason);
    this.#address = this.name;
    throw new Passing(refused.reason, refused.wait);
  }

  #explained(error: unknown, stalled: boolean): Error {
    if (error instanceof StelliumError || error instanceof Passing) return error;
    if (this.#options.signal?.aborted) return this.#aborted(error);
    if (this.#closing.signal.aborted) return this.#unreadable("it was closed");
    this.#address = this.name;
    if (stalled) return new Passing(`nothing came for ${this.#options.patience} ms`);
    const { message, cause } = error as Error;
    return new Passing(cause instanceof Error ? `${message}: ${cause.message}` : message, 0, { cause: error });
  }

  async #pause(failures: number, { wait }: Passing): Promise<void> {
    const backoff = Math.min(longestWait, this.#options.backoff * 2 ** (failures - 1));
    // Devices that were cut off together should not come back together.
    const time = Math.max(wait, backoff * (0.75 + Math.random() / 2));
    try {
      await sleep(time, undefined, { signal: this.#signal });
    } catch (error) {
      throw this.#explained(error, false);
    }
  }

  #aborted(cause: unknown): StelliumError {
    const reason = this.#options.signal!.reason;
    const said = reason instanceof Error ? reason.message : String(reason);
    return new StelliumError("ABORTED", { reason: said }, { cause });
  }

  #unreadable(reason: string, cause?: unknown): StelliumError {
    return new StelliumError("URL_UNREADABLE", { url: this.name, reason }, { cause });
  }
}
