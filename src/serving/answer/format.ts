import { channelMarkers } from "./channels.ts";

/** How a model writes calls of tools. */
export type ToolSyntax =
  /** `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Qwen, Hermes. */
  | "hermes"
  /** `{"name": ..., "parameters": {...}}`, perhaps behind `<|python_tag|>`: Llama 3. */
  | "llama3"
  /** `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`. */
  | "mistral"
  /** `[TOOL_CALLS]name[ARGS]{...}`, newer Mistral models. */
  | "mistralNamed"
  /** `<|channel|>commentary to=functions.name<|message|>{...}`: gpt-oss. */
  | "harmony";

/** What stands around reasoning. */
export interface ReasoningMarkers {
  readonly open: string;
  readonly close: string;
  /** Another marker that closes it. */
  readonly alsoCloses?: string;
  /** Whether the prompt ends with `open`, so that the answer begins within the reasoning. */
  readonly opened: boolean;
}

/** What besides text a model's answers may have. */
export interface AnswerFormat {
  /** Undefined where calls are not to be looked for: they would be text. */
  readonly tools?: ToolSyntax | undefined;
  readonly reasoning?: ReasoningMarkers | undefined;
  /** True if each part of an answer names its channel; see `channelMarkers`. */
  readonly channels?: true;
}

const reasoningMarkers = [
  { open: "<think>", close: "</think>" },
  { open: "[THINK]", close: "[/THINK]" },
];

/**
 * How a model answers, from its chat template.
 *
 * @param renderedPrompt tells whether the template has begun the reasoning already
 */
export function answerFormat(template: string, renderedPrompt = ""): AnswerFormat {
  if (hasChannels(template)) return { tools: "harmony", reasoning: analysis, channels: true };
  return { tools: toolSyntax(template), reasoning: reasoningOf(template, renderedPrompt) };
}

const { start, channel, message, end } = channelMarkers;
const analysis = { open: `${channel}analysis${message}`, close: end, opened: false };
const final = `${channel}final`;

/** Whether a chat template is of a model that answers in channels. */
export function hasChannels(template: string): boolean {
  return template.includes(channel) && template.includes(`${start}assistant`);
}

/** How a model answers where nothing but channels is looked for: reasoning of other models is shown as they write it. */
export function plainFormat(template: string): AnswerFormat {
  return hasChannels(template) ? { reasoning: analysis, channels: true } : {};
}

/** The part of an answer that precedes content which a grammar or schema holds to a form. */
export function beforeContent({ reasoning, channels }: AnswerFormat): ReasoningMarkers | undefined {
  if (channels === undefined) return reasoning;
  const json = `${final} ${channelMarkers.constrain}json${message}`;
  return { open: "", close: `${final}${message}`, alsoCloses: json, opened: true };
}

/** Templates of other syntaxes share some of the markers. */
function toolSyntax(template: string): ToolSyntax | undefined {
  const has = (...texts: string[]) => texts.every((text) => template.includes(text));
  if (has("<tool_call>")) return has("<function=") || has("<arg_key>") ? undefined : "hermes";
  if (has("[TOOL_CALLS]")) return has("[ARGS]") ? "mistralNamed" : "mistral";
  const llama3 = has("<|start_header_id|>", "tools") && (has("<|python_tag|>") || has('"parameters": '));
  return llama3 ? "llama3" : undefined;
}

function reasoningOf(template: string, prompt: string): ReasoningMarkers | undefined {
  const markers = reasoningMarkers.find(({ open, close }) => template.includes(open) || template.includes(close));
  return markers && { ...markers, opened: prompt.trimEnd().endsWith(markers.open) };
}

/**
 * Spellings of the control tokens that an answer's text has to show for its calls and reasoning to be found. Those that
 * a vocabulary has no token for are ordinary text.
 */
export function visibleMarkers({ tools, reasoning, channels }: AnswerFormat): string[] {
  const ofTools: Readonly<Record<ToolSyntax, readonly string[]>> = {
    hermes: ["<tool_call>", "</tool_call>"],
    llama3: ["<|python_tag|>"],
    mistral: ["[TOOL_CALLS]"],
    mistralNamed: ["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
    harmony: [],
  };
  if (channels) return Object.values(channelMarkers);
  return [...(tools ? ofTools[tools] : []), ...(reasoning ? [reasoning.open, reasoning.close] : [])];
}
