import { parseArgs } from "node:util";
import { StelliumError } from "../../errors.ts";
import { nearest } from "./nearest.ts";
import { environmentVariable, type Option, type Options } from "./option.ts";

/** What arguments are read by. */
export interface Grammar {
  readonly options: Options;
  /** Options that arguments without dashes stand for, in order; those given by name are skipped. */
  readonly positionals: readonly string[];
}

type Texts = Map<string, string[]>;

/**
 * The values of a command's options: from the arguments, else from the environment, else each option's own fallback.
 * Throws `BAD_USAGE`, naming the nearest option for one that does not exist.
 */
export function readArguments(grammar: Grammar, args: readonly string[], environment: NodeJS.ProcessEnv) {
  const texts = readTexts(grammar, args);
  for (const [key, option] of Object.entries(grammar.options)) {
    const value = environment[environmentVariable(option)];
    if (value && !texts.has(key)) texts.set(key, [value]);
  }
  const read = ([key, option]: [string, Option<unknown>]) => [key, option.read(texts.get(key) ?? [])];
  return Object.fromEntries(Object.entries(grammar.options).map(read)) as Record<string, unknown>;
}

function readTexts({ options, positionals }: Grammar, args: readonly string[]): Texts {
  const spellings = spellingsOf(options);
  const known = new Set([...[...spellings.keys()].map((name) => `--${name}`), ...shortSpellings(options)]);
  const { tokens } = parseArgs({
    args: withLongSpellings(args, options),
    options: Object.fromEntries([...spellings].map(([name, key]) => [name, nodeOption(options[key]!, name)])),
    strict: false,
    tokens: true,
  });
  const texts: Texts = new Map();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const key = spellings.get(token.name);
    if (key === undefined) throw unknown(token.rawName, options);
    checkValue(options[key]!, token.rawName, token.value, known);
    texts.set(key, [...(texts.get(key) ?? []), token.value ?? ""]);
  }
  const words = tokens.flatMap((token) => (token.kind === "positional" ? [token.value] : []));
  fillPositionals(texts, positionals, words);
  return texts;
}

/** Every long spelling, without dashes, and the key of its option. */
function spellingsOf(options: Options): Map<string, string> {
  const spelled = ([key, { flag, aliases = [] }]: [string, Option<unknown>]) =>
    [flag, ...aliases.filter((alias) => alias.startsWith("--")).map((alias) => alias.slice(2))].map(
      (name) => [name, key] as const,
    );
  return new Map(Object.entries(options).flatMap(spelled));
}

function nodeOption({ flag, short, value }: Option<unknown>, name: string) {
  const type = value === undefined ? ("boolean" as const) : ("string" as const);
  return short !== undefined && name === flag ? { type, short } : { type };
}

/** Node takes `-ngl` for three short options: spellings of one dash and more letters become long ones. */
function withLongSpellings(args: readonly string[], options: Options): string[] {
  const long = new Map(
    Object.values(options).flatMap(({ flag, aliases = [] }) => aliases.map((alias) => [alias, `--${flag}`])),
  );
  const end = args.indexOf("--");
  return args.map((arg, i) => (end >= 0 && i > end ? arg : (long.get(arg) ?? arg)));
}

function checkValue(
  { flag, short, value: name }: Option<unknown>,
  spelled: string,
  value: string | undefined,
  known: ReadonlySet<string>,
): void {
  if (name === undefined && value !== undefined) throw usage(`${spelled} takes no value, and ${value} was given`);
  // Node takes whatever comes next for the value.
  if (name === undefined || (value !== undefined && !known.has(value))) return;
  const how = short === undefined ? `--${flag} ${name}` : `-${short} ${name}`;
  throw usage(`${spelled} needs a value, as in ${how}`);
}

function fillPositionals(texts: Texts, positionals: readonly string[], words: readonly string[]): void {
  const open = positionals.filter((key) => !texts.has(key));
  words.forEach((word, i) => {
    const key = open[i];
    if (key === undefined) throw usage(`the argument ${JSON.stringify(word)} has no meaning here`);
    texts.set(key, [word]);
  });
}

/** One letter is too little to guess from. */
function unknown(spelled: string, options: Options): StelliumError {
  const names = Object.values(options).map(({ flag }) => `--${flag}`);
  const meant = spelled.startsWith("--") ? nearest(spelled, names) : undefined;
  return usage(`there is no option ${spelled}${meant === undefined ? "" : `; the nearest is ${meant}`}`);
}

function shortSpellings(options: Options): string[] {
  return Object.values(options).flatMap(({ short }) => (short === undefined ? [] : [`-${short}`]));
}

function usage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
