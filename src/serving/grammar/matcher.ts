import { StelliumError } from "../../errors.ts";
import { operation, type Program } from "./instructions.ts";

/** A call that has not returned: where to go on, and the call around it. Equal frames are the same object. */
interface Frame {
  readonly id: number;
  readonly returnTo: number;
  readonly parent: Frame | undefined;
}

/** A reading of the text so far: it waits for a byte at instruction `at`, within the calls of `frame`. */
interface Reading {
  readonly at: number;
  readonly frame: Frame | undefined;
}

/** All readings of a text so far, of which there is at least one. Equal states are the same object. */
export interface State {
  readonly readings: readonly Reading[];
  /** Whether the text may end here. */
  readonly complete: boolean;
  /** The states behind bytes that were tried; null where none follows. */
  readonly next: (State | null)[];
}

/** How much a grammar may cost. A grammar with exponentially many readings of a text is stopped by them. */
const limits = {
  /** Instructions looked at for one byte. */
  perByte: 20_000,
  /** Instructions looked at between two calls of `renew`. */
  perToken: 2_000_000,
  /** Readings of states, and frames, that are kept from token to token. Up to twice as many are kept for one: some 10 MB. */
  kept: 50_000,
};

/**
 * Follows a text through a grammar byte by byte, all readings at once. States are found again, so that what was
 * computed for one text serves others: a deterministic automaton that is made while it is used.
 */
export class Matcher {
  readonly #program: Program;
  readonly #frames = new Map<number, Frame>();
  readonly #states = new Map<string, State>();
  #frameCount = 0;
  /** Readings of all states that are kept. */
  #readings = 0;
  #spent = 0;

  constructor(program: Program) {
    this.#program = program;
  }

  /** The state before any text. Throws `GRAMMAR_INVALID` where the grammar is too ambiguous, as `step` does. */
  start(): State {
    return this.#close([{ at: this.#program.entries[0]!, frame: undefined }])!;
  }

  /** The state behind one more byte; null if the grammar does not go on with it. */
  step(state: State, byte: number): State | null {
    const known = state.next[byte];
    if (known !== undefined) return known;
    const { first, second } = this.#program;
    this.#spent += state.readings.length >> 4;
    const taken = state.readings.filter(({ at }) => byte >= first[at]! && byte <= second[at]!);
    const next = taken.length === 0 ? null : this.#close(taken.map(({ at, frame }) => ({ at: at + 1, frame })));
    state.next[byte] = next;
    return next;
  }

  /** Begins a new allowance, and forgets old states where there are many: use the state that is returned instead. */
  renew(state: State): State {
    this.#spent = 0;
    if (this.#readings + this.#frames.size < limits.kept) return state;
    this.#forget();
    const known = new Map<Frame, Frame>();
    const readings = state.readings.map(({ at, frame }) => ({ at, frame: frame && this.#rebuild(frame, known) }));
    return this.#intern(readings, state.complete);
  }

  /** Goes through the instructions that take no byte; null where none of the readings leads anywhere. */
  #close(open: Reading[]): State | null {
    const { operations, first, second, entries } = this.#program;
    const seen = new Set<number>();
    const waiting: Reading[] = [];
    let complete = false;
    const visit = (at: number, frame: Frame | undefined) => void open.push({ at, frame });
    const follow = ({ at, frame }: Reading) => {
      switch (operations[at]) {
        case operation.byte:
          return void waiting.push({ at, frame });
        case operation.split:
          visit(second[at]!, frame);
          return visit(first[at]!, frame);
        case operation.jump:
          return visit(first[at]!, frame);
        case operation.call:
          return visit(entries[first[at]!]!, this.#frameFor(at + 1, frame));
        case operation.return:
          if (frame === undefined) complete = true;
          else visit(frame.returnTo, frame.parent);
      }
    };
    for (let reading = open.pop(); reading !== undefined; reading = open.pop()) {
      const key = this.#keyOf(reading.at, reading.frame);
      if (seen.has(key)) continue;
      seen.add(key);
      this.#spend(seen.size);
      follow(reading);
    }
    return waiting.length === 0 && !complete ? null : this.#intern(waiting, complete);
  }

  #spend(inThisByte: number): void {
    this.#spent++;
    if (inThisByte <= limits.perByte && this.#spent <= limits.perToken) return;
    throw new StelliumError("GRAMMAR_INVALID", { reason: "there are too many ways to read a text by it" });
  }

  /** A call that is the last thing its rule does returns to where the rule does. */
  #frameFor(returnTo: number, parent: Frame | undefined): Frame | undefined {
    const { operations, first } = this.#program;
    let at = returnTo;
    while (operations[at] === operation.jump && first[at]! > at) at = first[at]!;
    return operations[at] === operation.return ? parent : this.#frame(at, parent);
  }

  #frame(returnTo: number, parent: Frame | undefined): Frame {
    const key = this.#keyOf(returnTo, parent);
    const known = this.#frames.get(key);
    if (known !== undefined) return known;
    const frame = { id: ++this.#frameCount, returnTo, parent };
    this.#frames.set(key, frame);
    return frame;
  }

  #keyOf(at: number, frame: Frame | undefined): number {
    return (frame?.id ?? 0) * this.#program.operations.length + at;
  }

  /** Forgets what was computed. States that are in use stay what they are; only what follows is found again. */
  #forget(): void {
    for (const state of this.#states.values()) state.next.length = 0;
    this.#states.clear();
    this.#frames.clear();
    this.#readings = 0;
  }

  #intern(readings: Reading[], complete: boolean): State {
    const key = `${complete}${readings.map(({ at, frame }) => this.#keyOf(at, frame)).join()}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    if (this.#readings + this.#frames.size > 2 * limits.kept) this.#forget();
    this.#readings += readings.length + 1;
    const state: State = { readings, complete, next: [] };
    this.#states.set(key, state);
    return state;
  }

  /** The same frame among the kept ones, outermost calls first: they may nest as deep as the text is long. */
  #rebuild(frame: Frame, known: Map<Frame, Frame>): Frame {
    const chain: Frame[] = [];
    for (let at: Frame | undefined = frame; at !== undefined && !known.has(at); at = at.parent) chain.push(at);
    for (const old of chain.reverse()) known.set(old, this.#frame(old.returnTo, old.parent && known.get(old.parent)));
    return known.get(frame)!;
  }
}
