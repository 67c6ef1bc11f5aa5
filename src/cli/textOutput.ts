import type { GeneratedToken, GenerationResult } from "../serving/generation.ts";
import { printable } from "../weights/gguf/printable.ts";

/**
 * Writes a model's text to stdout as it comes. On a terminal, control characters are shown and not obeyed, and the
 * text ends with a line feed; elsewhere every byte is the model's.
 */
export class TextOutput {
  readonly #terminal = process.stdout.isTTY === true;
  #last = "\n";
  /** What was written. */
  text = "";

  /** Writes a piece. */
  write(piece: string): void {
    if (piece === "") return;
    this.text += piece;
    this.#last = piece.at(-1)!;
    process.stdout.write(this.#terminal ? shown(piece) : piece);
  }

  /** Ends the line, if one is open; `always` elsewhere than on a terminal, too. */
  endLine({ always = false } = {}): void {
    if (this.#last === "\n" || !(always || this.#terminal)) return;
    this.#last = "\n";
    process.stdout.write("\n");
  }
}

/** Hands each piece of text to `onText`; returns how the generation ended. */
export async function follow(
  generation: AsyncGenerator<GeneratedToken, GenerationResult>,
  onText: (text: string) => void,
): Promise<GenerationResult> {
  for (;;) {
    const { done, value } = await generation.next();
    if (done) return value;
    onText(value.text);
  }
}

/** Tabs are harmless. */
function shown(piece: string): string {
  return piece
    .split("\t")
    .map((part) => printable(part, { lines: true }))
    .join("\t");
}
