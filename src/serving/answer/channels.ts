import type { CallListener } from "./callReader.ts";

/**
 * Control tokens of answers in channels (gpt-oss's harmony format). Each part has a head, which names its channel or who
 * is called, and a body: `<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`.
 */
export const channelMarkers = {
  ...{ start: "<|start|>", channel: "<|channel|>", constrain: "<|constrain|>", message: "<|message|>" },
  ...{ end: "<|end|>", call: "<|call|>", return: "<|return|>" },
} as const;

/** Hears of the parts of an answer. A call begins, has arguments, and ends. */
export interface ChannelListener extends CallListener {
  text(kind: "reasoning" | "content", text: string): void;
  endCall(): void;
}

const { start, channel, message } = channelMarkers;
/** Beginnings of a head, white space aside. */
const heads = [start, channel, "to="];
/** Markers that end a body. The start of the next part ends one, too. */
const ends: readonly string[] = [channelMarkers.end, channelMarkers.call, channelMarkers.return, start];
/** Characters of a head. What is longer is content. */
const longestHead = 256;

/** Divides an answer in channels, character by character. What has no head is content, as it is. */
export class ChannelReader {
  readonly #listener: ChannelListener;
  readonly #calls: boolean;
  #place: "head" | "reasoning" | "content" | "call" = "head";
  /** A head as far as it has been read, or text that may become the marker that ends a body. */
  #held = "";
  /** Of a call whose arguments have not begun. */
  #name: string | undefined;
  /** Kinds of text that there have been: a further part of one is a further paragraph. */
  readonly #told = new Set<string>();
  #isNew = true;

  /** @param calls whether calls are looked for; what calls is content otherwise */
  constructor(listener: ChannelListener, calls: boolean) {
    this.#listener = listener;
    this.#calls = calls;
  }

  push(character: string): void {
    this.#held += character;
    if (this.#place === "head") this.#readHead();
    else this.#readBody();
  }

  /** Takes what is held. A head that was cut off is no text, and a call whose arguments have not begun is none. */
  end(): void {
    if (this.#place === "head") {
      if (/^\s*($|<\||to=functions\.)/.test(this.#held)) return;
      this.#begin("content");
    }
    this.#tell(this.#held);
    if (this.#place === "call" && this.#name === undefined) this.#listener.endCall();
  }

  #readHead(): void {
    if (this.#held.endsWith(message)) {
      const head = this.#held;
      this.#held = "";
      const [, name] = /\bto=functions\.([\w.-]+)/.exec(head) ?? [];
      if (name !== undefined && this.#calls) {
        this.#name = name;
        this.#begin("call");
      } else this.#begin(/<\|channel\|>\s*analysis/.test(head) ? "reasoning" : "content");
      return;
    }
    const begun = this.#held.trimStart();
    const mayBeHead = heads.some((opening) => opening.startsWith(begun) || begun.startsWith(opening));
    if (!mayBeHead) this.#begin("content");
    else if (this.#held.length > longestHead) this.#tellAll();
  }

  /** Tells the held text, which is too long for a head, as content. */
  #tellAll(): void {
    this.#place = "content";
    this.#tell(this.#held);
    this.#held = "";
  }

  /** Begins a body. Text that is held was no head, and is read again as part of it. */
  #begin(place: "reasoning" | "content" | "call"): void {
    this.#place = place;
    this.#isNew = true;
    const held = this.#held;
    this.#held = "";
    for (const character of held) this.push(character);
  }

  /** Tells what becomes none of the markers. */
  #readBody(): void {
    while (this.#held !== "") {
      if (ends.includes(this.#held)) {
        this.#endBody(this.#held);
        return;
      }
      if (ends.some((marker) => marker.startsWith(this.#held))) return;
      this.#tell(this.#held.charAt(0));
      this.#held = this.#held.slice(1);
    }
  }

  #endBody(marker: string): void {
    if (this.#place === "call") this.#endCall();
    this.#place = "head";
    this.#held = marker === start ? start : "";
  }

  /** A call that ends without arguments has none. */
  #endCall(): void {
    if (this.#name !== undefined) this.#argument("{}");
    this.#listener.endCall();
  }

  #tell(text: string): void {
    if (text === "") return;
    if (this.#place === "call") this.#argument(text);
    else this.#text(this.#place === "reasoning" ? "reasoning" : "content", text);
  }

  #argument(text: string): void {
    if (this.#name !== undefined) {
      if (text.trim() === "") return;
      this.#listener.begin({ id: undefined, name: this.#name });
      this.#name = undefined;
    }
    this.#listener.argument(text);
  }

  #text(kind: "reasoning" | "content", text: string): void {
    if (this.#isNew && this.#told.has(kind)) this.#listener.text(kind, "\n\n");
    this.#isNew = false;
    this.#told.add(kind);
    this.#listener.text(kind, text);
  }
}
