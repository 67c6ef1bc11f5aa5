import { StelliumError } from "../../errors.ts";

/** An option of a command: how it is spelled, what it takes, and what it means. */
export interface Option<T> {
  /** The long spelling, without the dashes. Its environment variable is `STELLIUM_` and this in capitals. */
  readonly flag: string;
  /** The short spelling, one letter. */
  readonly short?: string;
  /** Other spellings that people know from other programs, with their dashes. Not shown in help. */
  readonly aliases?: readonly string[];
  /** What help calls the value; absent for a switch, which takes none. */
  readonly value?: string;
  readonly summary: string;
  /** Whether it may be given more than once. */
  readonly repeatable?: boolean;
  /** The value of all its occurrences, in order; of none where it was not given. Throws `BAD_USAGE`. */
  readonly read: (texts: readonly string[]) => T;
}

/** Options by the names that code calls their values. */
export type Options = Readonly<Record<string, Option<unknown>>>;

/** The values of options. */
export type Values<O extends Options> = { readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never };

type Spelling = Omit<Option<unknown>, "read" | "repeatable">;

/** A text, taken as it is. */
export function text(spelling: Spelling): Option<string | undefined> {
  return { ...spelling, read: (texts) => texts.at(-1) };
}

/** Texts, in the order they are given. */
export function texts(spelling: Spelling): Option<readonly string[]> {
  return { ...spelling, repeatable: true, read: (given) => given };
}

/** Something that is on or off. */
export function toggle(spelling: Omit<Spelling, "value">): Option<boolean> {
  return { ...spelling, read: (given) => given.length > 0 && isOn(spelling, given.at(-1)!) };
}

/** A number within bounds; `undefined` where it was not given and has no fallback. */
export function number<F extends number | undefined = undefined>(
  spelling: Spelling & { min: number; max: number; whole?: boolean; fallback?: F },
): Option<number | F> {
  const { min, max, whole = false, fallback, ...rest } = spelling;
  const check = (given: string) => {
    const value = given.trim() === "" ? Number.NaN : Number(given);
    if (value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
    throw refused(spelling, given, `${whole ? "a whole number" : "a number"} from ${min} to ${max}`);
  };
  return { ...rest, read: (given) => (given.length > 0 ? check(given.at(-1)!) : (fallback as F)) };
}

/** One of some words. */
export function choice<const C extends string>(spelling: Spelling & { choices: readonly C[] }): Option<C | undefined> {
  const { choices, ...rest } = spelling;
  const check = (given: string) => {
    const found = choices.find((word) => word === given);
    if (found !== undefined) return found;
    throw refused(spelling, given, `one of ${choices.join(", ")}`);
  };
  return { ...rest, read: (given) => (given.length > 0 ? check(given.at(-1)!) : undefined) };
}

/** The error for a value that an option cannot take. */
export function refused({ flag }: Pick<Spelling, "flag">, given: string, wanted: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail: `--${flag} must be ${wanted}, not ${JSON.stringify(given)}` });
}

/** The environment variable of an option. */
export function environmentVariable({ flag }: Pick<Spelling, "flag">): string {
  return `STELLIUM_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/** A switch on the command line has no value; in the environment it has one. */
function isOn(spelling: Pick<Spelling, "flag">, given: string): boolean {
  if (["", "1", "true", "yes", "on"].includes(given.toLowerCase())) return true;
  if (["0", "false", "no", "off"].includes(given.toLowerCase())) return false;
  throw refused(spelling, given, "1 or 0");
}
