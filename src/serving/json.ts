import { setImmediate } from "node:timers/promises";

/** What a body may hold. */
const most = {
  /** Levels of arrays and objects. */
  depth: 128,
  /** Elements of arrays and fields of objects, those within others as well. */
  values: 2 ** 18,
  /** Fields of objects. */
  fields: 2 ** 15,
} as const;

const code = { quote: 0x22, comma: 0x2c, colon: 0x3a, openArray: 0x5b, backslash: 0x5c, closeArray: 0x5d } as const;
const [openObject, closeObject] = [0x7b, 0x7d];

/** Counts what JSON holds, while it arrives. */
export class JsonBounds {
  #depth = 0;
  #deepest = 0;
  #values = 0;
  #fields = 0;
  #inText = false;
  #escaped = false;

  /** Elements of arrays and fields of objects so far. */
  get values(): number {
    return this.#values;
  }

  /** What there is too much of; undefined while there is not. */
  get excess(): string | undefined {
    if (this.#deepest > most.depth) return `nests deeper than ${most.depth} levels`;
    if (this.#values > most.values) return `has more than ${most.values} elements and fields`;
    return this.#fields > most.fields ? `has more than ${most.fields} fields` : undefined;
  }

  /** Takes the next bytes. */
  add(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (this.#escaped) this.#escaped = false;
      else if (byte === code.quote) this.#inText = !this.#inText;
      else if (this.#inText) this.#escaped = byte === code.backslash;
      else if (byte === code.comma) this.#values++;
      else if (byte === code.colon) this.#fields++;
      else if (byte === code.openArray || byte === openObject) this.#open();
      else if (byte === code.closeArray || byte === closeObject) this.#depth--;
    }
  }

  #open(): void {
    this.#values++;
    this.#deepest = Math.max(this.#deepest, ++this.#depth);
  }
}

/** Characters that are parsed in a row. */
const longestPiece = 2 ** 14;
/** Characters that are looked through in a row. */
const longestLook = 2 ** 18;

/**
 * `JSON.parse`, in pieces: the event loop runs between them. Only a text is parsed at once, however long it is. Throws
 * `SyntaxError`. What nests must be bounded before.
 */
export async function parseJson(json: string): Promise<unknown> {
  const start = json.search(/[^ \t\r\n]/);
  const first = json.charCodeAt(start);
  if (json.length <= longestPiece || (first !== code.openArray && first !== openObject)) return JSON.parse(json);
  const container = new Container(json, start);
  const { value, end } = await container.read();
  if (json.slice(end).trim() !== "") throw new SyntaxError("the JSON goes on after its end");
  return value;
}

/** A long array or object: short elements are parsed in groups, long ones by themselves. */
class Container {
  readonly #json: string;
  readonly #isArray: boolean;
  readonly #elements: unknown[] = [];
  readonly #fields: [string, unknown][] = [];
  /** Where the first element begins that was not parsed yet, and the last one. */
  #group: number;
  #element: number;

  /** @param start - where its bracket is */
  constructor(json: string, start: number) {
    this.#json = json;
    this.#isArray = json.charCodeAt(start) === code.openArray;
    this.#group = this.#element = start + 1;
  }

  async read(): Promise<{ value: unknown; end: number }> {
    const [first, json] = [this.#element, this.#json];
    let [at, depth, looked] = [first, 0, first];
    for (; ; at++) {
      const unit = json.charCodeAt(at);
      if (unit === code.quote) at = endOfText(json, at);
      else if (unit === code.comma && depth === 0) await this.#endElement(at);
      else if (unit === code.openArray || unit === openObject) depth++;
      else if ((unit === code.closeArray || unit === closeObject) && depth-- === 0) break;
      else if (Number.isNaN(unit)) throw new SyntaxError("the JSON ends before its last bracket");
      if (at - looked > longestLook) {
        looked = at;
        await setImmediate();
      }
    }
    if (json.charCodeAt(at) !== (this.#isArray ? code.closeArray : closeObject)) throw new SyntaxError("wrong bracket");
    if (this.#element > first || json.slice(first, at).trim() !== "") await this.#end(at);
    return { value: this.#isArray ? this.#elements : Object.fromEntries(this.#fields), end: at + 1 };
  }

  async #endElement(at: number): Promise<void> {
    if (at - this.#element > longestPiece) return this.#end(at);
    this.#element = at + 1;
    if (at - this.#group < longestPiece) return;
    await this.#parse(this.#group, at);
    this.#group = at + 1;
  }

  /** Parses what is left of the elements before `at`. */
  async #end(at: number): Promise<void> {
    const isLong = at - this.#element > longestPiece;
    const rest = isLong ? this.#element - 1 : at;
    if (rest > this.#group || !isLong) await this.#parse(this.#group, rest);
    if (isLong) await this.#parseLong(this.#element, at);
    this.#group = this.#element = at + 1;
  }

  async #parse(from: number, to: number): Promise<void> {
    const elements = this.#json.slice(from, to);
    if (elements.trim() === "") throw new SyntaxError("an element is missing");
    if (this.#isArray) this.#elements.push(...(JSON.parse(`[${elements}]`) as unknown[]));
    else this.#fields.push(...Object.entries(JSON.parse(`{${elements}}`) as object));
    await setImmediate();
  }

  async #parseLong(from: number, to: number): Promise<void> {
    const json = this.#json;
    await setImmediate();
    if (this.#isArray) return void this.#elements.push(await parseJson(json.slice(from, to)));
    const quote = json.indexOf('"', from);
    const colon = json.indexOf(":", quote < 0 || quote > to ? to : endOfText(json, quote));
    const [name] = Object.keys(JSON.parse(`{${json.slice(from, colon)}:0}`) as object);
    this.#fields.push([name!, await parseJson(json.slice(colon + 1, to))]);
  }
}

/** Where the text ends that begins at a quotation mark. */
function endOfText(json: string, start: number): number {
  for (let at = json.indexOf('"', start + 1); at >= 0; at = json.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (json.charCodeAt(at - 1 - backslashes) === code.backslash) backslashes++;
    if (backslashes % 2 === 0) return at;
  }
  throw new SyntaxError("the JSON ends within a text");
}
