import { StelliumError } from "../../errors.ts";
import { nearest } from "../arguments/nearest.ts";
import { peakRssBytes } from "../deviceReport.ts";
import { errorLine } from "../errorLine.ts";
import { formatBytes } from "../format.ts";
import type { Interruption } from "../interruption.ts";
import { type Input, LineInput } from "./lineInput.ts";
import { describeTimings, notice, type Session } from "./session.ts";

const quotes = '"""';

const help = `  /system TEXT   tell the model what to be; without TEXT, show what it was told
  /clear         forget the conversation
  /stats         speed and memory
  /bye           leave (or /exit, or Ctrl-D)
  ${quotes}            starts a message of several lines, and ends it
  Ctrl-C         stops an answer; twice leaves`;

type Outcome = "done" | "stopped" | "leave";

const slashCommands: Record<string, (session: Session, text: string) => Outcome> = {
  "/help": () => say(help),
  "/?": () => say(help),
  "/bye": () => "leave",
  "/exit": () => "leave",
  "/clear": ({ conversation }) => {
    conversation.clear();
    return say("The conversation is forgotten.");
  },
  "/system": ({ conversation }, text) => {
    if (text === "") return say(conversation.system ?? "There is no system message.");
    conversation.system = text;
    return say("The system message is set.");
  },
  "/stats": (session) => say(stats(session)),
};

/** Talks with a person in the terminal until they leave. */
export async function converse(session: Session, interruption: Interruption): Promise<void> {
  using input = new LineInput(interruption.signal);
  notice("/help explains, /bye leaves.");
  for (let interrupted = false; ; ) {
    const message = await readMessage(input);
    if (message === "ended" || (message === "interrupted" && interrupted)) return;
    const outcome = message === "interrupted" ? "stopped" : await respond(session, message.line, interruption);
    if (outcome === "leave") return;
    interrupted = outcome === "stopped";
    if (interrupted) notice("(Ctrl-C once more leaves.)");
  }
}

/** A line, or the lines between `"""`. */
async function readMessage(input: LineInput): Promise<Input> {
  const first = await input.read("> ");
  if (typeof first === "string" || !first.line.trimStart().startsWith(quotes)) return first;
  let text = first.line.trimStart().slice(quotes.length);
  while (!text.trimEnd().endsWith(quotes)) {
    const next = await input.read("... ");
    if (typeof next === "string") return next;
    text += `\n${next.line}`;
  }
  return { line: text.trimEnd().slice(0, -quotes.length).replace(/^\n/, "") };
}

/** Does what a line asks for. `stopped` is an answer that the person stopped. */
async function respond(session: Session, line: string, interruption: Interruption): Promise<Outcome> {
  if (line.trim() === "") return "done";
  const { name, text = "" } = /^(?<name>\/[\w?]+)(?:\s+(?<text>.*))?$/s.exec(line.trim())?.groups ?? {};
  if (name !== undefined) return (slashCommands[name] ?? unknown(name))(session, text);
  try {
    const answered = await interruption.part((signal) => session.answer(line, signal));
    if (interruption.signal.aborted) return "leave";
    return answered ? "done" : "stopped";
  } catch (error) {
    if (!(error instanceof StelliumError) || error.code === "ENGINE_FAILED") throw error;
    return say(errorLine(error));
  }
}

function unknown(name: string) {
  const meant = nearest(name, Object.keys(slashCommands));
  return () =>
    say(`There is no ${name}${meant === undefined ? "" : `; the nearest is ${meant}`}. /help lists what there is.`);
}

function stats({ textModel, last }: Session): string {
  const { engine, memory, context } = textModel.coordinator;
  return [
    `  last answer  ${last === undefined ? "none yet" : describeTimings(last)}`,
    `  context      ${last === undefined ? 0 : last.prompt_n + last.cache_n + last.predicted_n} of ${context} tokens`,
    `  memory       ${formatBytes(peakRssBytes())} at most, of which weights ${formatBytes(engine.weightBytes)}, KV cache up to ${formatBytes(memory.kvBytes)}`,
  ].join("\n");
}

function say(text: string): Outcome {
  notice(text);
  return "done";
}
