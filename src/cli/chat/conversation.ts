import { StelliumError } from "../../errors.ts";
import type { ChatMessage, ChatTemplate } from "../../serving/chatTemplate.ts";
import { encodeChat } from "../../serving/encodeChat.ts";
import type { TextModel } from "../../serving/textModel.ts";

/** What a conversation asks the model next. */
export interface NextPrompt {
  readonly tokens: Int32Array;
  /** How many of the oldest turns were dropped because they no longer fit. */
  readonly dropped: number;
}

/** A turn: what the user said and what was answered. */
interface Turn {
  readonly user: string;
  answer?: string;
}

/** The messages of a chat, and the prompt they make. */
export class Conversation {
  /** What the model is told first; it is never dropped. */
  system: string | undefined;
  readonly #textModel: TextModel;
  readonly #template: ChatTemplate;
  #turns: Turn[] = [];

  constructor(textModel: TextModel, template: ChatTemplate, system: string | undefined) {
    this.#textModel = textModel;
    this.#template = template;
    this.system = system;
  }

  /** Forgets every turn. */
  clear(): void {
    this.#turns = [];
  }

  /**
   * The prompt that asks for an answer to `text`. Where it would leave less than a quarter of the context for the
   * answer, the oldest turns are dropped. Throws `CONTEXT_EXCEEDED` where `text` alone does not fit, and
   * `TEMPLATE_FAILED`; the conversation is then as before.
   */
  async ask(text: string): Promise<NextPrompt> {
    const turns = [...this.#turns, { user: text }];
    for (let dropped = 0; ; dropped++) {
      const kept = turns.slice(dropped);
      const tokens = await this.#encode(kept);
      if (!this.#fits(tokens.length, kept.length === 1)) continue;
      this.#turns = kept;
      return { tokens, dropped };
    }
  }

  /** Takes down the answer; without one, the question is taken back. */
  answer(text: string): void {
    if (text.trim() === "") this.#turns.pop();
    else this.#turns.at(-1)!.answer = text;
  }

  #fits(prompt: number, last: boolean): boolean {
    const { context } = this.#textModel;
    if (prompt <= context * 0.75) return true;
    if (!last) return false;
    if (prompt < context) return true;
    throw new StelliumError("CONTEXT_EXCEEDED", { prompt, predict: 1, context });
  }

  #encode(turns: readonly Turn[]): Promise<Int32Array> {
    const messages = turns.flatMap(({ user, answer }) => [
      { role: "user", content: user },
      ...(answer === undefined ? [] : [{ role: "assistant", content: answer }]),
    ]);
    const system: ChatMessage[] = this.system === undefined ? [] : [{ role: "system", content: this.system }];
    return encodeChat(this.#textModel, this.#template, [...system, ...messages]);
  }
}
