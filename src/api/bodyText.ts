import { StelliumError } from "../errors.ts";
import { JsonBounds } from "../serving/json.ts";

/** Most bytes of a request's body. */
export const mostBodyBytes = 8 * 2 ** 20;

/** Most bytes of all bodies that are arriving. */
const mostBytesAtOnce = 4 * mostBodyBytes;

/** How long a body may take, in milliseconds. */
export interface BodyPatience {
  /** Without any byte of it. */
  readonly silentMs: number;
  readonly wholeMs: number;
}

const usualPatience: BodyPatience = { silentMs: 10_000, wholeMs: 60_000 };

/** Bodies on their way, of all servers of this process, the one that was silent longest first. */
const arriving = new Set<ArrivingBody>();
let bytesAtOnce = 0;

/** What a body says. */
export interface BodyText {
  readonly text: string;
  /** Elements of arrays and fields of objects, if it is JSON. */
  readonly values: number;
}

/** A body on its way. */
class ArrivingBody {
  readonly #texts: string[] = [];
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #bounds = new JsonBounds();
  readonly #givenUp: Promise<never>;
  #giveUp!: (error: StelliumError) => void;
  #bytes = 0;

  constructor() {
    this.#givenUp = new Promise((_, reject) => {
      this.#giveUp = reject;
    });
    this.#givenUp.catch(() => {});
  }

  /** Has `read` throw, and frees what came. */
  giveUp(error: StelliumError): void {
    this.#free();
    this.#giveUp(error);
  }

  /** All of it, as text. Throws what it was given up for, and `REQUEST_INVALID` for JSON that holds too much. */
  async read(stream: ReadableStream<Uint8Array>, { silentMs, wholeMs }: BodyPatience): Promise<BodyText> {
    const reader = stream.getReader();
    const late = (ms: number) => () => this.giveUp(tooSlow("the body", ms));
    const whole = setTimeout(late(wholeMs), wholeMs);
    const silence = setTimeout(late(silentMs), silentMs);
    arriving.add(this);
    try {
      for (;;) {
        const { done, value } = await Promise.race([reader.read().catch(asAborted), this.#givenUp]);
        // Given up while this was read.
        if (!arriving.has(this)) await this.#givenUp;
        if (done) return this.#whole();
        silence.refresh();
        this.#take(value);
      }
    } finally {
      clearTimeout(whole);
      clearTimeout(silence);
      this.#free();
      void reader.cancel().catch(() => {});
    }
  }

  #whole(): BodyText {
    const { excess, values } = this.#bounds;
    if (excess !== undefined) throw new StelliumError("REQUEST_INVALID", { reason: `the body ${excess}` });
    return { text: this.#texts.join("") + this.#decoder.decode(), values };
  }

  /** What holds too much is read to its end, for clients listen when they have sent, but it is not kept. */
  #take(chunk: Uint8Array): void {
    arriving.delete(this);
    arriving.add(this);
    this.#bytes += chunk.length;
    bytesAtOnce += chunk.length;
    this.#bounds.add(chunk);
    if (this.#bounds.excess === undefined) this.#texts.push(this.#decoder.decode(chunk, { stream: true }));
    if (this.#bytes > mostBodyBytes) throw tooLarge();
    while (bytesAtOnce > mostBytesAtOnce) giveUpMostSilent();
  }

  #free(): void {
    if (!arriving.delete(this)) return;
    bytesAtOnce -= this.#bytes;
    this.#texts.length = 0;
  }
}

/**
 * The body of a request, of which no more is read than may come, whatever the headers say. Throws `BODY_TOO_LARGE`, and
 * `REQUEST_INVALID` for too many levels, elements or fields of JSON; `BODIES_TOO_LARGE` if all bodies are too large together and this one was silent longest; `REQUEST_TOO_SLOW`, `ABORTED`.
 */
export async function bodyText(request: Request, patience: BodyPatience = usualPatience): Promise<BodyText> {
  if (Number(request.headers.get("content-length") ?? 0) > mostBodyBytes) throw tooLarge();
  if (request.body === null) return { text: "", values: 0 };
  return await new ArrivingBody().read(request.body, patience);
}

/** What did not come in time. */
export function tooSlow(what: string, ms: number): StelliumError {
  return new StelliumError("REQUEST_TOO_SLOW", { what, seconds: ms / 1000 });
}

/** A request that is meant goes on arriving; one that only holds memory does not. */
function giveUpMostSilent(): void {
  const [first] = arriving;
  first?.giveUp(new StelliumError("BODIES_TOO_LARGE", { most: mostBytesAtOnce }));
}

function tooLarge(): StelliumError {
  return new StelliumError("BODY_TOO_LARGE", { most: mostBodyBytes });
}

function asAborted(error: unknown): never {
  throw new StelliumError("ABORTED", { reason: "the request ended before its body did" }, { cause: error });
}
