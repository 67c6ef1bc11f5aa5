// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Text from a file, fit for a terminal or a message: control and direction characters as `\u001b`, and not more than
 * `limit` characters. Line feeds stay where `lines` says so.
 */
export function printable(text: string, { limit = Infinity, lines = false } = {}): string {
  const escaped = (character: string) =>
    lines && character === "\n" ? "\n" : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const shown = text.slice(0, limit).replace(unprintable, escaped);
  return text.length > limit ? `${shown}...` : shown;
}

/** A key's or tensor's name, fit for a message. */
export function printableName(name: string): string {
  return printable(name, { limit: 80 });
}
