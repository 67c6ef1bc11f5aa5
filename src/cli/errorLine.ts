import { inspect } from "node:util";
import { StelliumError } from "../errors.ts";
import { printable } from "../weights/gguf/printable.ts";

/** Writes one line on stderr: what went wrong and how to mend it. Returns the exit code. */
export function reportError(error: unknown, command?: string): number {
  const known = error instanceof StelliumError ? error : unexpected(error);
  if (process.env["STELLIUM_LOG"] === "debug") process.stderr.write(`${inspect(error)}\n`);
  process.stderr.write(`${errorLine(known, command)}\n`);
  return known.code === "BAD_USAGE" ? 2 : 1;
}

/** Such as `stellium: cannot read x.gguf: no such file. Check the path and its permissions.` */
export function errorLine({ code, message, hint }: StelliumError, command?: string): string {
  const help = command === undefined ? "`stellium help`" : `\`stellium ${command} --help\``;
  const mend = code === "BAD_USAGE" ? `See ${help} for what there is.` : hint;
  const said = printable(message.trim().replaceAll(/\s*\n\s*/g, " "));
  return `stellium: ${said}${/[.!?]$/.test(said) ? "" : "."} ${mend}`;
}

function unexpected(error: unknown): StelliumError {
  const reason = error instanceof Error ? error.message : String(error);
  return new StelliumError("UNEXPECTED", { reason }, { cause: error });
}
