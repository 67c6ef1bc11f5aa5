import { createReadStream } from "node:fs";
import { z } from "zod";
import { reasonOf, StelliumError } from "../errors.ts";
import { type RoutingChoice, type RoutingFacts, routingFormat } from "./routing.ts";

/** Bounds that no real model or pass reaches. */
const most = { layers: 4096, experts: 65_536, all: 1 << 20, lineLength: 1 << 26 };
const count = z.int().min(1).max(most.experts);
const headLine = z.object({
  format: z.literal(routingFormat.format),
  version: z.literal(routingFormat.version),
  layers: z.array(z.int().min(0)).min(1).max(most.layers),
  experts: count,
  used: count,
});
const choiceLine = z.object({ layer: z.int(), ids: z.array(z.int().min(0)).min(1) });

/**
 * Streams a routing record. Throws `FILE_UNREADABLE`, and `ROUTING_INVALID` for a malformed line.
 *
 * @param begin - called with the header; returns the function to call with each choice
 */
export async function readRouting(
  path: string,
  begin: (facts: RoutingFacts) => (choice: RoutingChoice) => void,
): Promise<void> {
  let line = 0;
  let take: ((text: string) => void) | undefined;
  const first = (text: string) => {
    const facts = headOf(text);
    const told = begin(facts);
    return (next: string) => told(choiceOf(next, facts));
  };
  try {
    for await (const text of linesOf(path)) {
      line++;
      if (take === undefined) take = first(text);
      else take(text);
    }
    if (take === undefined) throw new InvalidLine("it is empty");
  } catch (error) {
    if (error instanceof StelliumError) throw error;
    if (error instanceof InvalidLine) throw invalid(path, `${error.message} (line ${Math.max(1, line)})`);
    throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
  }
}

class InvalidLine extends Error {}

function invalid(path: string, reason: string): StelliumError {
  return new StelliumError("ROUTING_INVALID", { path, reason });
}

/** Yields complete lines. An unterminated last line is dropped: its write was interrupted. */
async function* linesOf(path: string): AsyncGenerator<string, void> {
  let rest = "";
  for await (const chunk of createReadStream(path, "utf8")) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop()!;
    if (rest.length > most.lineLength) throw new InvalidLine(`it has more than ${most.lineLength} characters`);
    yield* lines;
  }
}

function headOf(text: string): RoutingFacts {
  const head = headLine.safeParse(parsed(text));
  if (!head.success) throw new InvalidLine("it does not begin as a record does");
  const { layers, experts, used } = head.data;
  if (layers.length * experts > most.all) throw new InvalidLine(`it has ${layers.length * experts} experts in all`);
  if (used > experts) throw new InvalidLine(`each token gets ${used} of ${experts} experts`);
  return { layers, experts, used };
}

function choiceOf(text: string, { layers, experts, used }: RoutingFacts): RoutingChoice {
  const choice = choiceLine.safeParse(parsed(text));
  if (!choice.success) throw new InvalidLine("it is no choice");
  const { layer, ids } = choice.data;
  if (!layers.includes(layer)) throw new InvalidLine(`layer ${layer} has no experts`);
  if (ids.length % used !== 0) throw new InvalidLine(`it has ${ids.length} experts, and each token gets ${used}`);
  if (ids.some((id) => id >= experts)) throw new InvalidLine(`there are ${experts} experts`);
  return choice.data;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidLine("it is not JSON");
  }
}
