/** What came out of a scanner: text that holds no marker, and the marker behind it. */
export interface Scanned {
  readonly text: string;
  readonly marker?: string;
  /** The marker with the white space in front of it. */
  readonly raw?: string;
}

/** White space is held back as well, for it does not count in front of a marker; more of it than this is text. */
const mostSpace = 64;

/** Finds markers in a stream of characters, and holds back what may become one. */
export class MarkerScanner {
  #held = "";

  /** @param markers what to look for at this character */
  push(character: string, markers: readonly string[]): Scanned {
    this.#held += character;
    let text = "";
    for (;;) {
      const begun = this.#held.trimStart();
      const raw = this.#held;
      if (markers.includes(begun)) {
        this.#held = "";
        return { text, marker: begun, raw };
      }
      const space = raw.length - begun.length;
      if (space <= mostSpace && markers.some((marker) => marker.startsWith(begun))) return { text };
      const free = begun === "" ? space : space + 1;
      text += raw.slice(0, free);
      this.#held = raw.slice(free);
      if (this.#held === "") return { text };
    }
  }

  /** What is held, which becomes no marker any more. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}
