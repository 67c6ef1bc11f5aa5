import { readFile } from "node:fs/promises";
import { reasonOf, StelliumError } from "../errors.ts";
import type { PromptValues } from "./options.ts";

/** The prompt that the options give, or undefined. Throws `BAD_USAGE` for two, and `FILE_UNREADABLE`. */
export async function promptOf({ prompt, promptFile }: PromptValues): Promise<string | undefined> {
  if (prompt !== undefined && promptFile !== undefined) {
    throw new StelliumError("BAD_USAGE", { detail: "--prompt and --prompt-file were both given; give one" });
  }
  if (promptFile === undefined) return prompt;
  return promptFile === "-" ? readStdin() : readText(promptFile);
}

/** A UTF-8 file. Throws `FILE_UNREADABLE`. */
export async function readText(path: string): Promise<string> {
  try {
    return decodeText(path, await readFile(path));
  } catch (error) {
    if (error instanceof StelliumError) throw error;
    throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
  }
}

/** All of stdin. Throws `FILE_UNREADABLE` if it is not UTF-8. */
export async function readStdin(): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
  return decodeText("stdin", Buffer.concat(chunks));
}

function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new StelliumError("FILE_UNREADABLE", { path, reason: "it is not UTF-8 text" }, { cause: error });
  }
}
