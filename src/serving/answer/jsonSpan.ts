/** The span of one JSON value in a stream of characters: it knows where the value ends, and not whether it is right inside. */
export class JsonSpan {
  readonly kind: "object" | "array" | "string" | "word";
  readonly #characters: string[];
  /** What closes the brackets that are open. */
  readonly #closing: string[] = [];
  #inString = false;
  #escaped = false;

  /** @param first the first character of the value */
  constructor(first: string) {
    this.kind = first === "{" ? "object" : first === "[" ? "array" : first === '"' ? "string" : "word";
    this.#characters = [first];
    this.#inString = first === '"';
    if (first === "{" || first === "[") this.#closing.push(first === "{" ? "}" : "]");
  }

  /** Whether a value can begin as this one did. */
  get isValid(): boolean {
    return this.kind !== "word" || /[-0-9a-z]/.test(this.#characters[0]!);
  }

  /** `ended`: with this character; `before`: with the one before it. */
  push(character: string): "open" | "ended" | "before" | "malformed" {
    if (this.kind === "word") return /[-+.0-9A-Za-z]/.test(character) ? "open" : "before";
    if (this.kind === "string") this.#characters.push(character);
    if (this.#inString) return this.#string(character);
    if (character === '"') this.#inString = true;
    else if (character === "{" || character === "[") this.#closing.push(character === "{" ? "}" : "]");
    else if ((character === "}" || character === "]") && this.#closing.pop() !== character) return "malformed";
    return this.#closing.length === 0 ? "ended" : "open";
  }

  /** What a string says; undefined where it is none, or not a right one. */
  text(): string | undefined {
    if (this.kind !== "string") return undefined;
    try {
      return String(JSON.parse(this.#characters.join("")));
    } catch {
      return undefined;
    }
  }

  #string(character: string): "open" | "ended" {
    if (this.#escaped) this.#escaped = false;
    else if (character === "\\") this.#escaped = true;
    else if (character === '"') this.#inString = false;
    return !this.#inString && this.#closing.length === 0 ? "ended" : "open";
  }
}
