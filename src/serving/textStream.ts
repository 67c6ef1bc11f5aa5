/** Turns the bytes of one token after another into text. */
export interface TextStream {
  /** The characters that are complete now; the bytes of one that is not are kept for the next call. */
  push(bytes: Uint8Array): string;
  /** What is left at the end: U+FFFD if a character was cut short, else nothing. */
  flush(): string;
}

/** Decodes UTF-8 as the WHATWG Encoding Standard does: invalid bytes become U+FFFD, a byte order mark stays. */
export function createTextStream(): TextStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (bytes) => decoder.decode(bytes, { stream: true }),
    flush: () => decoder.decode(),
  };
}
