import type { ReasoningMarkers } from "../answer/format.ts";
import type { Matcher, State } from "./matcher.ts";
import type { Triggers } from "./triggers.ts";

/**
 * Where an answer is: before reasoning that may come, in it, in the white space behind it, in free text that waits for
 * a trigger, or in the grammar. Texts have one character for each byte.
 */
export type Phase =
  | { readonly kind: "opening"; readonly text: string }
  | { readonly kind: "reasoning"; readonly tail: string }
  | { readonly kind: "gap"; readonly length: number }
  /** `head` is all the text, as long as it may become a trigger at the start. */
  | { readonly kind: "waiting"; readonly tail: string; readonly head: string | undefined }
  | { readonly kind: "matching"; readonly state: State };

/** White space between reasoning and what the grammar says. */
const widestGap = 8;

/** Leads an answer byte by byte to where its grammar applies, and through the grammar. */
export class Phases {
  readonly first: Phase;
  readonly #matcher: Matcher;
  readonly #start: State;
  readonly #triggers: Triggers | undefined;
  /** The first phase behind reasoning. */
  readonly #answer: Phase;
  readonly #open: string;
  readonly #closes: readonly string[];
  readonly #longestClose: number;

  constructor(matcher: Matcher, triggers: Triggers | undefined, reasoning: ReasoningMarkers | undefined) {
    this.#matcher = matcher;
    this.#start = matcher.start();
    this.#triggers = triggers;
    this.#answer = triggers ? { kind: "waiting", tail: "", head: "" } : { kind: "gap", length: 0 };
    this.#open = bytesOf(reasoning?.open ?? "");
    this.#closes = [reasoning?.close ?? "", ...(reasoning?.alsoCloses ? [reasoning.alsoCloses] : [])].map(bytesOf);
    this.#longestClose = Math.max(...this.#closes.map(({ length }) => length));
    this.first = this.#firstPhase(reasoning);
  }

  #firstPhase(reasoning: ReasoningMarkers | undefined): Phase {
    if (reasoning?.opened) return { kind: "reasoning", tail: "" };
    if (reasoning) return { kind: "opening", text: "" };
    return this.#triggers ? this.#answer : { kind: "matching", state: this.#start };
  }

  /** Null where the byte must not come. */
  step(phase: Phase, byte: number): Phase | null {
    const character = String.fromCharCode(byte);
    switch (phase.kind) {
      case "opening":
        return this.#opening(phase.text + character);
      case "reasoning":
        return this.#reasoning((phase.tail + character).slice(-this.#longestClose));
      case "gap":
        if (trimmed(character) === "" && phase.length < widestGap) return { kind: "gap", length: phase.length + 1 };
        return this.#matching(this.#start, byte);
      case "waiting":
        return this.#triggers!.step(phase, character);
      case "matching":
        return this.#matching(phase.state, byte);
    }
  }

  /** Whether the answer may end here. */
  isComplete(phase: Phase): boolean {
    if (phase.kind === "matching") return phase.state.complete;
    return this.#triggers !== undefined || (phase.kind !== "reasoning" && this.#start.complete);
  }

  #matching(state: State, byte: number): Phase | null {
    const next = this.#matcher.step(state, byte);
    return next && { kind: "matching", state: next };
  }

  /** What turns out not to open reasoning was the beginning of the answer. */
  #opening(text: string): Phase | null {
    const opening = trimmed(text);
    if (opening === this.#open) return { kind: "reasoning", tail: "" };
    // More white space than the answer may begin with would leave it no way on.
    const mayOpen = this.#open.startsWith(opening) && text.length - opening.length <= widestGap;
    if (mayOpen) return { kind: "opening", text };
    let phase: Phase | null = this.#answer;
    for (let i = 0; i < text.length && phase !== null; i++) phase = this.step(phase, text.charCodeAt(i));
    return phase;
  }

  #reasoning(tail: string): Phase {
    return this.#closes.some((close) => tail.endsWith(close)) ? this.#answer : { kind: "reasoning", tail };
  }
}

/** A text's UTF-8, one character for each byte. */
export function bytesOf(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** Without white space in front. A byte of UTF-8 may look like one of Latin-1's spaces. */
export function trimmed(text: string): string {
  return text.replace(/^[ \t\r\n]+/, "");
}
