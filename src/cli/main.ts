#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { StelliumError } from "../errors.ts";
import { commandHelp, programHelp } from "./arguments/help.ts";
import { nearest } from "./arguments/nearest.ts";
import { readArguments } from "./arguments/parse.ts";
import { type Command, commands } from "./commands.ts";
import { reportError } from "./errorLine.ts";
import { Interruption } from "./interruption.ts";

const interruption = new Interruption();
interruption.listen();
process.exitCode = await main(process.argv.slice(2));

/** Does what the arguments say, and returns the exit code. */
async function main([name = "help", ...args]: readonly string[]): Promise<number> {
  try {
    await dispatch(name, args);
    return interruption.exitCode ?? 0;
  } catch (error) {
    return interruption.exitCode ?? reportError(error, commands.find((command) => command.name === name)?.name);
  }
}

async function dispatch(name: string, args: readonly string[]): Promise<void> {
  if (name === "--version" || name === "-v") return print(version());
  if (name === "help" || name === "--help" || name === "-h") return help(args);
  const command = find(name);
  if (asksForHelp(args)) return print(commandHelp(command));
  const values = readArguments(command, args, process.env);
  return command.run(values as never, interruption);
}

function help([name]: readonly string[]): void {
  print(name === undefined ? programHelp(commands) : commandHelp(find(name)));
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end < 0 ? args : args.slice(0, end)).some((arg) => arg === "--help" || arg === "-h");
}

function find(name: string): Command {
  const command = commands.find((candidate) => candidate.name === name || candidate.aliases?.includes(name));
  if (command !== undefined) return command;
  const meant = nearest(
    name,
    commands.map((candidate) => candidate.name),
  );
  const detail = `there is no command ${name}${meant === undefined ? "" : `; the nearest is ${meant}`}`;
  throw new StelliumError("BAD_USAGE", { detail });
}

function version(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
