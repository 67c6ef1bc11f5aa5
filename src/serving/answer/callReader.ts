import { JsonSpan } from "./jsonSpan.ts";

/** What a call turned out to be, as far as it was read. */
export interface CallParts {
  readonly id: string | undefined;
  readonly name: string;
}

/** Hears of a call as soon as its name is known and its arguments have begun. */
export interface CallListener {
  begin(call: CallParts): void;
  argument(text: string): void;
}

/** `open`: more is needed; `done`: the last character ended the call; `malformed`: that character cannot be part of one. */
export type CallStatus = "open" | "done" | "malformed";

/** Reads one call, character by character. */
export interface CallReader {
  push(character: string): CallStatus;
  /** Whether `begin` was called: from then on it is a call, whatever follows. */
  readonly begun: boolean;
}

/** Keys that hold the arguments. */
const argumentKeys = new Set(["arguments", "parameters"]);
/** Characters before a call has begun: what is longer is text, and read once more for each marker in it. */
const longestHead = 4096;

type Step = "object" | "firstKey" | "key" | "colon" | "value" | "behind";

/**
 * A call as a JSON object with a `name` and `arguments` or `parameters`, in any order.
 *
 * @param strict whether other members, and arguments that are missing, make it something else than a call
 */
export class ObjectCallReader implements CallReader {
  readonly #listener: CallListener;
  readonly #strict: boolean;
  #step: Step = "object";
  #length = 0;
  #key = "";
  #span: JsonSpan | undefined;
  #name: string | undefined;
  #id: string | undefined;
  /** Arguments that came before the name. */
  #early = "";
  #hasArguments = false;
  #begun = false;

  constructor(listener: CallListener, strict: boolean) {
    this.#listener = listener;
    this.#strict = strict;
  }

  get begun(): boolean {
    return this.#begun;
  }

  push(character: string): CallStatus {
    if (!this.#begun && ++this.#length > longestHead) return "malformed";
    if (this.#span !== undefined) return this.#continueSpan(this.#span, character);
    return /[ \t\r\n]/.test(character) ? "open" : this.#structure(character);
  }

  #structure(character: string): CallStatus {
    switch (this.#step) {
      case "object":
        return character === "{" ? this.#expect("firstKey") : "malformed";
      case "firstKey":
      case "key":
        if (character === "}" && this.#step === "firstKey") return "malformed";
        return character === '"' ? this.#startSpan(character) : "malformed";
      case "colon":
        return character === ":" ? this.#expect("value") : "malformed";
      case "value":
        return this.#value(character);
      case "behind":
        if (character === ",") return this.#expect("key");
        return character === "}" ? this.#end() : "malformed";
    }
  }

  #expect(step: Step): CallStatus {
    this.#step = step;
    return "open";
  }

  #value(character: string): CallStatus {
    const isText = character === '"';
    if (argumentKeys.has(this.#key)) {
      if (this.#hasArguments || !(isText || character === "{")) return "malformed";
      this.#hasArguments = true;
    } else if (this.#key === "name" && (this.#name !== undefined || !isText)) return "malformed";
    return this.#startSpan(character);
  }

  #startSpan(character: string): CallStatus {
    this.#span = new JsonSpan(character);
    if (!this.#span.isValid) return "malformed";
    this.#stream(character);
    return "open";
  }

  #continueSpan(span: JsonSpan, character: string): CallStatus {
    const state = span.push(character);
    if (state === "malformed") return "malformed";
    // A number or a word ends before the character that shows its end.
    const within = state === "open" || state === "ended";
    if (within) this.#stream(character);
    if (state === "open") return "open";
    this.#span = undefined;
    const status = this.#step === "value" ? this.#endValue(span) : this.#endKey(span);
    return within || status !== "open" ? status : this.push(character);
  }

  /** Objects are passed on as they come. */
  #stream(text: string): void {
    if (this.#step !== "value" || !argumentKeys.has(this.#key) || this.#span?.kind !== "object") return;
    if (this.#name === undefined) this.#early += text;
    else this.#argument(text);
  }

  #endKey(span: JsonSpan): CallStatus {
    const key = span.text();
    if (key === undefined) return "malformed";
    this.#key = key;
    const known = key === "name" || key === "type" || key === "id" || argumentKeys.has(key);
    return known || !this.#strict ? this.#expect("colon") : "malformed";
  }

  #endValue(span: JsonSpan): CallStatus {
    this.#step = "behind";
    if (this.#key === "id") this.#id = span.text();
    if (this.#key === "name") return this.#named(span.text());
    // Some models write the arguments as a text that holds JSON.
    if (!argumentKeys.has(this.#key) || span.kind !== "string") return "open";
    const text = span.text();
    if (text === undefined) return "malformed";
    if (this.#name === undefined) this.#early = text;
    else this.#argument(text);
    return "open";
  }

  #named(name: string | undefined): CallStatus {
    if (!name) return "malformed";
    this.#name = name;
    if (this.#early !== "") this.#argument(this.#early);
    return "open";
  }

  #argument(text: string): void {
    this.#begin();
    this.#listener.argument(text);
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    this.#listener.begin({ id: this.#id, name: this.#name! });
  }

  #end(): CallStatus {
    if (this.#begun) return "done";
    if (this.#name === undefined || (this.#strict && !this.#hasArguments)) return "malformed";
    this.#argument(this.#hasArguments ? "" : "{}");
    return "done";
  }
}

/** A call as `name[ARGS]{...}`, perhaps with `[CALL_ID]id` behind the name. */
export class NamedCallReader implements CallReader {
  readonly #listener: CallListener;
  #head = "";
  #span: JsonSpan | undefined;

  constructor(listener: CallListener) {
    this.#listener = listener;
  }

  get begun(): boolean {
    return this.#span !== undefined;
  }

  push(character: string): CallStatus {
    if (this.#span !== undefined) {
      const state = this.#span.push(character);
      if (state === "malformed") return "malformed";
      this.#listener.argument(character);
      return state === "open" ? "open" : "done";
    }
    this.#head += character;
    return character === "{" ? this.#begin() : this.#mayBecomeHead() ? "open" : "malformed";
  }

  #begin(): CallStatus {
    const [, name, id] = /^\s*([\w.-]+)\s*(?:\[CALL_ID\]([\w-]+))?(?:\[ARGS\])?\s*\{$/.exec(this.#head) ?? [];
    if (name === undefined) return "malformed";
    this.#span = new JsonSpan("{");
    this.#listener.begin({ id, name });
    this.#listener.argument("{");
    return "open";
  }

  #mayBecomeHead(): boolean {
    return this.#head.length < 128 && /^\s*[\w.-]*\s*(?:\[[\w[\]-]*)?\s*$/.test(this.#head);
  }
}
