import { StelliumError } from "../../errors.ts";
import type { ChatTemplateInput } from "../chatTemplate.ts";
import { BoundedInterpreter } from "./boundedInterpreter.ts";
import { requireAtMost } from "./bounds.ts";
import { Environment, type Node, parse } from "./library.ts";
import { strftime } from "./strftime.ts";

/** A template's Jinja source, and what it may name. */
export interface TemplateSource {
  /** Where it comes from, as errors name it: `the chat template of model.gguf`. */
  readonly name: string;
  readonly source: string;
  /** Spelling of the tokens that templates insert by name; empty where the model has none. */
  readonly bosToken: string;
  readonly eosToken: string;
}

/** A template, and a conversation; as JSON, its time is a text. */
export interface Rendering {
  readonly template: TemplateSource;
  readonly input: ChatTemplateInput;
}

/** Characters that a template may have. The longest that are known have 30,000. */
const longestSource = 2 ** 18;

/** The template that was used last: a model has one. */
let parsed: { readonly source: string; readonly program: Node } | undefined;

/** Throws `TEMPLATE_FAILED` for a template that cannot be parsed. */
export function parseTemplate({ name, source }: TemplateSource): void {
  explained(name, () => programOf(source));
}

/** The prompt of a conversation. Throws `TEMPLATE_FAILED` with the template's own reason. */
export function renderTemplate({ template, input }: Rendering): string {
  return explained(template.name, () => {
    const environment = new Environment();
    const specials = { bos_token: template.bosToken, eos_token: template.eosToken };
    const variables = {
      ...input.extra,
      ...inputVariables(input),
      ...specials,
      ...globals(new Date(input.now ?? Date.now())),
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    return String(new BoundedInterpreter(environment).run(programOf(template.source)).value);
  });
}

function programOf(source: string): Node {
  if (parsed?.source === source) return parsed.program;
  if (source.length > longestSource)
    throw new Error(`it has ${source.length} characters; at most ${longestSource} are allowed`);
  parsed = { source, program: parse(source) };
  return parsed.program;
}

function inputVariables({ messages, tools, addGenerationPrompt }: ChatTemplateInput) {
  // Null, not undefined: Hugging Face passes None, and templates ask `tools is not none`.
  const always = { messages, tools: tools ?? null };
  return addGenerationPrompt === undefined ? always : { ...always, add_generation_prompt: addGenerationPrompt };
}

/** The library's own globals cannot be replaced, and its `strftime_now` does not take a time: so all of them are ours. */
function globals(now: Date): Record<string, unknown> {
  return {
    ...constants,
    range,
    raise_exception: (reason: unknown) => {
      throw new Error(typeof reason === "string" ? reason : "it raises an exception");
    },
    strftime_now: (format: unknown) => {
      if (typeof format !== "string") throw new Error("strftime_now() takes a format");
      requireAtMost(format.length, "argument", "a format of # characters");
      return strftime(now, format);
    },
  };
}

const constants = { true: true, false: false, none: null, True: true, False: false, None: null };

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  requireAtMost(length, "list", "range() of # numbers");
  return Array.from({ length }, (_, index) => start + index * step);
}

function explained<T>(template: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 1000) : String(error);
    throw new StelliumError("TEMPLATE_FAILED", { template, reason }, { cause: error });
  }
}
