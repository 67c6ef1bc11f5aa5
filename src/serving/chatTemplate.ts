import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { StelliumError } from "../errors.ts";
import { strftime } from "./strftime.ts";

/** A message of a conversation, as templates see it. */
export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** What a template is given. */
export interface ChatTemplateInput {
  messages: readonly ChatMessage[];
  /** Definitions of functions, in OpenAI's shape. */
  tools?: readonly unknown[] | undefined;
  /** Whether to end with the opening of the assistant's next message; the template's own default if absent. */
  addGenerationPrompt?: boolean | undefined;
  /** The time that `strftime_now` tells, in the local time zone; the present if absent. */
  now?: Date | undefined;
  /** More variables, such as `enable_thinking`; they do not replace those above. */
  extra?: Readonly<Record<string, unknown>> | undefined;
}

/** A chat template, parsed. */
export interface ChatTemplate {
  /**
   * The prompt of a conversation. It spells control tokens by name: encode it with `parseSpecial`.
   *
   * @throws StelliumError `TEMPLATE_FAILED` with the template's own reason
   */
  render(input: ChatTemplateInput): string;
}

/** ChatML, for a model that comes without a template. */
export const fallbackChatTemplate =
  "{% for message in messages %}" +
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}" +
  "{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/**
 * Parses a Jinja chat template, as in a GGUF's `tokenizer.chat_template`.
 *
 * @param specials spelling of the tokens that templates insert by name; empty where the model has none
 * @throws StelliumError `TEMPLATE_FAILED` for a syntax error
 */
export function createChatTemplate(source: string, specials: { bosToken: string; eosToken: string }): ChatTemplate {
  const specialVariables = { bos_token: specials.bosToken, eos_token: specials.eosToken };
  const program = explained(() => parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })));
  return {
    render: (input) =>
      explained(() => {
        const environment = new Environment();
        const variables = { ...input.extra, ...inputVariables(input), ...specialVariables, ...globals(input.now) };
        for (const [name, value] of Object.entries(variables)) environment.set(name, value);
        return String(new Interpreter(environment).run(program).value);
      }),
  };
}

function inputVariables({ messages, tools, addGenerationPrompt }: ChatTemplateInput) {
  // Null, not undefined: Hugging Face passes None, and templates ask `tools is not none`.
  const always = { messages, tools: tools ?? null };
  return addGenerationPrompt === undefined ? always : { ...always, add_generation_prompt: addGenerationPrompt };
}

/** The library's own globals cannot be replaced, and its `strftime_now` does not take a time: so all of them are ours. */
function globals(now = new Date()): Record<string, unknown> {
  return {
    ...constants,
    range,
    raise_exception: (reason: string) => {
      throw new Error(reason);
    },
    strftime_now: (format: string) => strftime(now, format),
  };
}

const constants = { true: true, false: false, none: null, True: true, False: false, None: null };

/** The limit of Jinja's sandbox: a template is part of a downloaded file and must not fill the memory. */
const maxRange = 100_000;

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= maxRange)) throw new Error(`range() of ${length} numbers; at most ${maxRange} are allowed`);
  return Array.from({ length }, (_, index) => start + index * step);
}

function explained<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new StelliumError("TEMPLATE_FAILED", { reason }, { cause: error });
  }
}
