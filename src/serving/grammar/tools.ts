import { StelliumError } from "../../errors.ts";
import type { AnswerFormat, ToolSyntax } from "../answer/format.ts";
import type { GrammarRequest } from "./constraint.ts";
import { anyOf, type GbnfWriter, literal } from "./gbnfWriter.ts";
import { jsonWriter } from "./json.ts";
import { schemaExpression } from "./schema/jsonSchema.ts";

/** A function that a model may call. */
export interface ToolDefinition {
  readonly name: string;
  /** JSON schema of its arguments; no schema means that it takes none. */
  readonly parameters?: unknown;
  /** Whether a schema that cannot be held to is refused. Otherwise such a tool may be given any JSON object. */
  readonly strict?: boolean | undefined;
}

/** Which tools are to be called: none, as the model likes, at least one, or this one. */
export type ToolChoice = "none" | "auto" | "required" | { readonly name: string };

/** How a syntax spells a call, and calls in a row, as expressions of a grammar. */
interface Syntax {
  call(name: string, parameters: string): string;
  /** `most` is the repetition of further calls: as many as there are, or none. */
  calls(call: string, most: "*" | "{0}"): string;
  /** An answer without calls; just that, if absent. */
  answer?(answer: string): string;
  readonly triggers: readonly string[];
}

const syntaxes: Readonly<Record<ToolSyntax, Syntax>> = {
  hermes: {
    call: (name, parameters) => `"<tool_call>" ws ${object(name, "arguments", parameters)} ws "</tool_call>"`,
    calls: (call, most) => `${call} (ws ${call})${most}`,
    triggers: ["<tool_call>"],
  },
  llama3: {
    call: (name, parameters) => object(name, "parameters", parameters),
    calls: (call, most) => `"<|python_tag|>"? ${call} (";" ws ${call})${most}`,
    triggers: ["<|python_tag|>", '^{"name"'],
  },
  mistral: {
    call: (name, parameters) => object(name, "arguments", parameters),
    calls: (call, most) => `"[TOOL_CALLS]" ws "[" ${call} ("," ws ${call})${most} "]"`,
    triggers: ["[TOOL_CALLS]"],
  },
  mistralNamed: {
    call: (name, parameters) => `"[TOOL_CALLS]" ${literal(name)} "[ARGS]" ${parameters}`,
    calls: (call, most) => `${call} ${call}${most}`,
    triggers: ["[TOOL_CALLS]"],
  },
  // The end of a call ends the answer, so that there is one at most.
  harmony: {
    call: (name, parameters) => `(${inChannel(name)} | ${beforeChannel(name)}) "<|message|>" ws ${parameters} ws`,
    calls: (call) => call,
    answer: (answer) => `"<|start|>assistant"? "<|channel|>final" ${asJson} "<|message|>" ${answer}`,
    triggers: ["<|channel|>commentary to=functions.", "<|start|>assistant to=functions.", "^to=functions."],
  },
};

const asJson = `(" "? "<|constrain|>json" | " json")?`;

function inChannel(name: string): string {
  return `"<|start|>assistant"? "<|channel|>commentary to=functions." ${literal(name)} ${asJson}`;
}

function beforeChannel(name: string): string {
  return `("<|start|>assistant ")? " "? "to=functions." ${literal(name)} "<|channel|>commentary" ${asJson}`;
}

function object(name: string, key: string, parameters: string): string {
  return `"{" ws "\\"name\\":" ws ${literal(JSON.stringify(name))} "," ws "\\"${key}\\":" ws ${parameters} ws "}"`;
}

/**
 * What holds an answer to calls of tools: from the first token where a call is demanded, from the beginning of a call
 * where the model is free to make one. Undefined where nothing is to be held to.
 *
 * @param parallel whether there may be several calls
 * @param answer JSON schema of an answer without calls, where the model is free to make none; any text if absent
 * @throws StelliumError `BAD_USAGE` if a call is demanded that cannot be made, `SCHEMA_UNSUPPORTED` for a strict tool
 */
export function toolsGrammar(
  tools: readonly ToolDefinition[],
  choice: ToolChoice,
  { tools: syntax, reasoning }: AnswerFormat,
  { parallel = true, answer }: { parallel?: boolean; answer?: unknown } = {},
): GrammarRequest | undefined {
  if (choice === "none") return undefined;
  const free = choice === "auto";
  if (free && (syntax === undefined || tools.length === 0)) return undefined;
  if (syntax === undefined) throw usage("the chat template of this model has no calls of tools that can be demanded");
  const callable = typeof choice === "string" ? tools : tools.filter(({ name }) => name === choice.name);
  if (callable.length === 0) throw usage("the tool that is to be called is not among the tools");
  const { call, calls, answer: answering = (rule) => rule, triggers } = syntaxes[syntax];
  const writer = jsonWriter();
  const parts = callable.map((tool) => writer.add("call", call(tool.name, parametersOf(writer, tool))));
  const called = writer.add("calls", calls(writer.add("call", anyOf(parts)), parallel ? "*" : "{0}"));
  const answers =
    free && answer !== undefined ? [answering(writer.add("answer", schemaExpression(writer, answer)))] : [];
  writer.set("root", anyOf([called, ...answers]));
  return { gbnf: writer.toString(), triggers: free && answers.length === 0 ? triggers : [], reasoning };
}

function parametersOf(writer: GbnfWriter, { name, parameters, strict = false }: ToolDefinition): string {
  if (parameters === undefined || parameters === null) return '"{" ws "}"';
  try {
    return writer.add(name, schemaExpression(writer, parameters));
  } catch (error) {
    if (strict || !(error instanceof StelliumError && error.code === "SCHEMA_UNSUPPORTED")) throw error;
    return "object";
  }
}

function usage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
