import { environmentVariable, type Option, type Options } from "./option.ts";

/** What help says of a command. */
export interface Described {
  readonly name: string;
  readonly summary: string;
  /** What follows the name, such as `-m FILE -p TEXT [options]`. */
  readonly usage: string;
  /** More than the summary says, in lines; may be empty. */
  readonly details: readonly string[];
  readonly options: Options;
  readonly examples: readonly string[];
}

/** The help of one command. */
export function commandHelp({ name, summary, usage, details, options, examples }: Described): string {
  return [
    `Usage: stellium ${name} ${usage}`,
    [`${summary}.`, ...details].join("\n"),
    `Options:\n${columns([...Object.values(options).map(optionRow), ["    --help", "show this text"]])}`,
    environment(Object.values(options)),
    `Examples:\n${examples.map((example) => `  ${example}`).join("\n")}`,
  ].join("\n\n");
}

/** The help of the whole program. */
export function programHelp(commands: readonly Described[]): string {
  const rows = commands.map(({ name, summary }) => [name, summary.charAt(0).toLowerCase() + summary.slice(1)] as const);
  return [
    "Usage: stellium COMMAND [options]",
    "Runs large language models on the devices you already own.",
    `Commands:\n${columns([...rows, ["help [COMMAND]", "explain a command"]])}`,
    `Examples:\n${commands.map(({ examples }) => `  ${examples[0]}`).join("\n")}`,
    "`stellium --version` tells the version. Results go to stdout; progress, logs (STELLIUM_LOG=debug) and errors to stderr.",
  ].join("\n\n");
}

function optionRow({ flag, short, value, summary, repeatable }: Option<unknown>): readonly [string, string] {
  const spelled = `${short === undefined ? "   " : `-${short},`} --${flag}${value === undefined ? "" : ` ${value}`}`;
  return [spelled, repeatable ? `${summary}; may be repeated` : summary];
}

function environment(options: readonly Option<unknown>[]): string {
  const [example] = options;
  if (example === undefined) return "";
  return `Every option can be set in the environment: --${example.flag} as ${environmentVariable(example)}. An option given here wins.`;
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}
