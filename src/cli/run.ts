import { StelliumError } from "../errors.ts";
import { plainFormat } from "../serving/answer/format.ts";
import { sandboxBytes } from "../serving/sandbox/sandbox.ts";
import type { Values } from "./arguments/option.ts";
import { Conversation } from "./chat/conversation.ts";
import { converse } from "./chat/interactive.ts";
import { Session } from "./chat/session.ts";
import { chooseTemplate } from "./chat/template.ts";
import type { runOptions } from "./commandOptions.ts";
import type { Interruption } from "./interruption.ts";
import { loadModel } from "./loadModel.ts";
import { promptOf, readStdin } from "./textInput.ts";

/** Chats: in the terminal, or answers one message that was given as an argument, a file, or on stdin. */
export async function run(values: Values<typeof runOptions>, interruption: Interruption): Promise<void> {
  const message = await messageOf(values);
  await using textModel = await loadModel(values, interruption.signal, { hostBytes: sandboxBytes });
  const { template, source, stop } = await chooseTemplate(textModel, values.chatTemplateFile);
  const conversation = new Conversation(textModel, template, values.system);
  const { predict, verbose } = values;
  const format = plainFormat(source);
  const options = { sampling: values, predict, verbose, stop: [...stop, ...values.stop], format };
  const session = new Session(textModel, conversation, options);
  if (message === undefined) await converse(session, interruption);
  else await session.answer(message, interruption.signal);
}

/** The one message to answer; undefined where a person is there to talk with. Throws `BAD_USAGE` for an empty one. */
async function messageOf(values: Values<typeof runOptions>): Promise<string | undefined> {
  const given = await promptOf(values);
  if (given === undefined && process.stdin.isTTY) return undefined;
  const message = given ?? (await readStdin()).replace(/\r?\n$/, "");
  if (message.trim() !== "") return message;
  throw new StelliumError("BAD_USAGE", { detail: "there is no message to answer, on stdin or as an argument" });
}
