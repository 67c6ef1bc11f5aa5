import { StelliumError } from "../../errors.ts";
import type { Matcher, State } from "./matcher.ts";
import { bytesOf, type Phase, trimmed } from "./phases.ts";

type Waiting = Extract<Phase, { kind: "waiting" }>;

/** The texts from which on a grammar applies; they are part of what it matches. */
export class Triggers {
  /** The state of the grammar behind each trigger. */
  readonly #anywhere = new Map<string, State>();
  readonly #atStart = new Map<string, State>();
  readonly #longest: number;

  /**
   * @param triggers one that begins with `^` counts at the start of the answer only, white space aside
   * @throws StelliumError `GRAMMAR_INVALID` for a trigger that the grammar does not begin with
   */
  constructor(matcher: Matcher, triggers: readonly string[]) {
    for (const trigger of triggers) {
      const atStart = trigger.startsWith("^");
      const text = bytesOf(atStart ? trigger.slice(1) : trigger);
      (atStart ? this.#atStart : this.#anywhere).set(text, stateBehind(matcher, text, trigger));
    }
    this.#longest = Math.max(1, ...[...this.#anywhere.keys()].map((text) => text.length));
  }

  /** The phase behind one more byte of free text. */
  step({ tail, head }: Waiting, character: string): Phase {
    const text = (tail + character).slice(-this.#longest);
    for (const [trigger, state] of this.#anywhere) if (text.endsWith(trigger)) return { kind: "matching", state };
    const start = head === undefined ? undefined : head + character;
    const state = start === undefined ? undefined : this.#atStart.get(trimmed(start));
    if (state !== undefined) return { kind: "matching", state };
    return { kind: "waiting", tail: text, head: this.#mayBegin(start) ? start : undefined };
  }

  #mayBegin(start: string | undefined): boolean {
    return start !== undefined && [...this.#atStart.keys()].some((trigger) => trigger.startsWith(trimmed(start)));
  }
}

function stateBehind(matcher: Matcher, text: string, trigger: string): State {
  let state: State | null = matcher.start();
  for (let i = 0; i < text.length && state !== null; i++) state = matcher.step(state, text.charCodeAt(i));
  if (state !== null && text !== "") return state;
  throw new StelliumError("GRAMMAR_INVALID", { reason: `it cannot begin with its trigger ${JSON.stringify(trigger)}` });
}
