import { type CallParts, type CallReader, NamedCallReader, ObjectCallReader } from "./callReader.ts";
import { type ChannelListener, ChannelReader } from "./channels.ts";
import type { AnswerFormat, ToolSyntax } from "./format.ts";
import { MarkerScanner } from "./markerScanner.ts";

/** A piece of an answer. Pieces of one kind, and of one call, belong together in the order they come. */
export type AnswerDelta =
  | { readonly kind: "content"; readonly text: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | {
      readonly kind: "toolCall";
      /** Number of the call in this answer, from 0. */
      readonly index: number;
      /** With the first piece, where the model gives one. */
      readonly id?: string | undefined;
      /** With the first piece. */
      readonly name?: string | undefined;
      /** The next piece of the JSON text of the arguments. */
      readonly arguments: string;
    };

/** Divides an answer into reasoning, content and calls. However the text is cut into pieces, the result is the same. */
export interface AnswerParser {
  /** Takes the next piece. Text that may become a marker, and the head of what may become a call, are held back. */
  push(text: string): AnswerDelta[];
  /** What was held back, when the answer has ended. */
  end(): AnswerDelta[];
}

/**
 * What does not follow the format to where a call's arguments begin is content, as it is. From there on it is a call:
 * what cannot be part of it is content again. White space around reasoning and calls is left out.
 */
export function createAnswerParser(format: AnswerFormat): AnswerParser {
  if (format.channels) return new ChannelParser(format.tools !== undefined);
  return format.tools === undefined && format.reasoning === undefined ? allContent : new Parser(format);
}

const allContent: AnswerParser = {
  push: (text) => (text === "" ? [] : [{ kind: "content", text }]),
  end: () => [],
};

type Mode =
  /** Reasoning may open here. */
  | "start"
  | "reasoning"
  | "content"
  | "call"
  /** Behind `[TOOL_CALLS]`, where its syntax shows. */
  | "calls"
  /** Before the first and behind each call of an array. */
  | "array";

/** A text, and its first character that was not taken yet. */
interface Unread {
  readonly text: string;
  readonly at: number;
}

/** Characters in which reasoning has to open, white space included. */
const mostOpening = 64;

const markers: Readonly<Record<Exclude<ToolSyntax, "harmony">, readonly string[]>> = {
  hermes: ["<tool_call>"],
  llama3: ["<|python_tag|>"],
  mistral: ["[TOOL_CALLS]"],
  mistralNamed: ["[TOOL_CALLS]"],
};

/** Pieces of an answer that nobody has taken. Those that belong together are joined. */
class Deltas implements ChannelListener {
  #deltas: AnswerDelta[] = [];
  #calls = 0;

  text(kind: "reasoning" | "content", text: string): void {
    this.#add({ kind, text });
  }

  begin({ id, name }: CallParts): void {
    this.#add({ kind: "toolCall", index: this.#calls, ...(id !== undefined && { id }), name, arguments: "" });
  }

  argument(text: string): void {
    this.#add({ kind: "toolCall", index: this.#calls, arguments: text });
  }

  endCall(): void {
    this.#calls++;
  }

  take(): AnswerDelta[] {
    const deltas = this.#deltas;
    this.#deltas = [];
    return deltas;
  }

  #add(delta: AnswerDelta): void {
    const last = this.#deltas.at(-1);
    const joined = last && join(last, delta);
    if (joined === undefined) this.#deltas.push(delta);
    else this.#deltas[this.#deltas.length - 1] = joined;
  }
}

/** Reads answers in channels. */
class ChannelParser implements AnswerParser {
  readonly #deltas = new Deltas();
  readonly #reader: ChannelReader;

  constructor(calls: boolean) {
    this.#reader = new ChannelReader(this.#deltas, calls);
  }

  push(text: string): AnswerDelta[] {
    for (let i = 0; i < text.length; i++) this.#reader.push(text.charAt(i));
    return this.#deltas.take();
  }

  end(): AnswerDelta[] {
    this.#reader.end();
    return this.#deltas.take();
  }
}

class Parser implements AnswerParser {
  readonly #format: AnswerFormat;
  readonly #scanner = new MarkerScanner();
  #mode: Mode;
  readonly #deltas = new Deltas();
  /** Texts to be taken, the next one last. */
  readonly #unread: Unread[] = [];
  /** Where the next call began: what stands before it, and what was read of it, until it is certain to be one. */
  #head = "";
  #raw = "";
  #reader: CallReader | undefined;
  #inArray = false;
  /** Whether white space counts: not in front of what follows a marker. */
  #trim = false;
  /** Whether nothing but calls came since the answer's start: a bare JSON object is a call only there. */
  #atStart = true;
  /** Marker that ends what precedes it and may come next. */
  #closing = "";

  constructor(format: AnswerFormat) {
    this.#format = format;
    this.#mode = format.reasoning === undefined ? "content" : format.reasoning.opened ? "reasoning" : "start";
    this.#trim = this.#mode === "reasoning";
  }

  push(text: string): AnswerDelta[] {
    this.#readNext(text);
    for (let next = this.#unread.pop(); next !== undefined; next = this.#unread.pop()) {
      if (next.at + 1 < next.text.length) this.#unread.push({ ...next, at: next.at + 1 });
      this.#take(next.text.charAt(next.at));
    }
    return this.#deltas.take();
  }

  end(): AnswerDelta[] {
    if (this.#mode === "start") this.#content(this.#raw);
    else if (this.#mode === "content") this.#content(this.#scanner.flush());
    else if (this.#mode === "reasoning") this.#reasoning(this.#scanner.flush().trimEnd());
    else if (!this.#reader?.begun && !this.#isBetweenCalls) this.#content(this.#head + this.#raw);
    this.#mode = "content";
    return this.#deltas.take();
  }

  #take(character: string): void {
    if (this.#mode === "start") this.#takeStart(character);
    else if (this.#mode === "reasoning") this.#takeReasoning(character);
    else if (this.#mode === "content") this.#takeContent(character);
    else if (this.#mode === "call") this.#takeCall(character);
    else this.#takeBetween(character);
  }

  #takeStart(character: string): void {
    const { open } = this.#format.reasoning!;
    this.#raw += character;
    const begun = this.#raw.trimStart();
    if (begun === open) this.#enter("reasoning");
    else if (!open.startsWith(begun) || this.#raw.length > mostOpening) this.#rewind("content");
  }

  #takeReasoning(character: string): void {
    const { text, marker } = this.#scanner.push(character, [this.#format.reasoning!.close]);
    this.#reasoning(text);
    if (marker !== undefined) this.#enter("content");
  }

  #takeContent(character: string): void {
    const { text, marker, raw = "" } = this.#scanner.push(character, this.#markers());
    this.#content(text);
    if (marker === undefined) return;
    if (marker === this.#closing) this.#enter("content");
    else this.#open(marker, raw);
    this.#closing = "";
  }

  #markers(): readonly string[] {
    const { tools } = this.#format;
    if (tools === undefined || tools === "harmony") return [];
    const bare = tools === "llama3" && this.#atStart ? ["{"] : [];
    return [...(this.#closing === "" ? [] : [this.#closing]), ...markers[tools], ...bare];
  }

  #open(marker: string, raw: string): void {
    this.#head = raw;
    this.#raw = "";
    this.#inArray = false;
    if (marker === "[TOOL_CALLS]") {
      this.#mode = "calls";
      return;
    }
    this.#read(new ObjectCallReader(this.#deltas, this.#format.tools === "llama3"));
    if (marker === "{") this.#reader?.push(marker);
  }

  #read(reader: CallReader): void {
    this.#reader = reader;
    this.#mode = "call";
  }

  /** Mistral's calls are an array, an object, or a name and an object. */
  #takeBetween(character: string): void {
    if (/[ \t\r\n]/.test(character) || (character === "," && this.#isBetweenCalls)) this.#raw += character;
    else if (character === "[" && this.#mode === "calls") {
      this.#raw += character;
      this.#mode = "array";
      this.#inArray = true;
    } else if (character === "]" && this.#isBetweenCalls) this.#enter("content");
    else if (this.#mode === "calls" || character === "{") {
      this.#readNext(character);
      this.#read(character === "{" ? new ObjectCallReader(this.#deltas, false) : new NamedCallReader(this.#deltas));
    } else {
      this.#raw += character;
      this.#giveUp();
    }
  }

  /** Whether the array's calls so far are certain. */
  get #isBetweenCalls(): boolean {
    return this.#mode === "array" && this.#head === "";
  }

  #takeCall(character: string): void {
    const reader = this.#reader!;
    const status = reader.push(character);
    if (!reader.begun) this.#raw += character;
    else this.#head = this.#raw = "";
    if (status === "open") return;
    if (status === "malformed" && reader.begun) this.#readNext(character);
    if (reader.begun) this.#endCall(status === "done" && this.#inArray ? "array" : "content");
    else this.#giveUp();
  }

  #endCall(next: Mode): void {
    this.#deltas.endCall();
    this.#reader = undefined;
    this.#enter(next);
    this.#atStart = true;
    const { tools } = this.#format;
    this.#closing = tools === "hermes" ? "</tool_call>" : tools === "llama3" ? ";" : "";
  }

  /** It was no call: the marker is content, and what came behind it is looked at anew. */
  #giveUp(): void {
    this.#reader = undefined;
    this.#content(this.#head);
    this.#head = "";
    this.#rewind("content");
  }

  #readNext(text: string): void {
    if (text !== "") this.#unread.push({ text, at: 0 });
  }

  #rewind(mode: Mode): void {
    this.#readNext(this.#raw);
    this.#raw = "";
    this.#mode = mode;
  }

  /** Begins a part in front of which white space does not count. */
  #enter(mode: Mode): void {
    this.#mode = mode;
    this.#raw = "";
    this.#trim = true;
  }

  #reasoning(text: string): void {
    const shown = this.#trimmed(text);
    if (shown !== "") this.#deltas.text("reasoning", shown);
  }

  #content(text: string): void {
    const shown = this.#trimmed(text);
    if (shown === "") return;
    if (shown.trim() !== "") this.#atStart = false;
    this.#closing = "";
    this.#deltas.text("content", shown);
  }

  #trimmed(text: string): string {
    if (!this.#trim) return text;
    const left = text.trimStart();
    if (left !== "") this.#trim = false;
    return left;
  }
}

/** Two pieces as one, where they belong together. */
function join(last: AnswerDelta, next: AnswerDelta): AnswerDelta | undefined {
  if (last.kind === "toolCall" && next.kind === "toolCall" && last.index === next.index) {
    return { ...last, arguments: last.arguments + next.arguments };
  }
  if (last.kind === "toolCall" || next.kind === "toolCall" || last.kind !== next.kind) return undefined;
  return { kind: last.kind, text: last.text + next.text };
}
