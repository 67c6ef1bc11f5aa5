/** A piece of an answer, as it is written. */
export type AnswerDelta =
  | { readonly kind: "content"; readonly text: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | {
      readonly kind: "toolCall";
      /** Which call of the answer it belongs to, from 0. */
      readonly index: number;
      /** With the first piece of a call. */
      readonly id?: string;
      /** With the first piece of a call. */
      readonly name?: string;
      /** The next piece of the arguments' JSON. */
      readonly arguments: string;
    };

/** Tells content, reasoning and tool calls apart in the text that a model writes. */
export interface AnswerParser {
  /** Takes the next piece. What may still become something else is held back. */
  push(text: string): AnswerDelta[];
  /** What was held back, when the text ends. */
  end(): AnswerDelta[];
}

/** Takes all text for content. */
export function createContentParser(): AnswerParser {
  return { push: (text) => (text === "" ? [] : [{ kind: "content", text }]), end: () => [] };
}
