import { supportOf } from "../model/support.ts";
import { readModelHeader } from "../models/modelHeader.ts";
import { describeValue } from "../weights/gguf/metadata.ts";
import type { GgufArray, GgufModel, GgufValue } from "../weights/gguf/model.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { Values } from "./arguments/option.ts";
import type { showOptions } from "./commandOptions.ts";
import { formatBytes, formatCount } from "./format.ts";
import { requireModel } from "./requireModel.ts";

/** Arrays with more elements are described and not printed. */
const longestPrintedArray = 64;

type Facts = Awaited<ReturnType<typeof factsOf>>;
type Row = readonly [label: string, ...columns: string[]];

/**
 * Describes a model on stdout: for people, or with `json` as one object. Of one that is not on this device, the header is
 * read over the network. Throws what `readModelHeader` throws.
 */
export async function show(values: Values<typeof showOptions>, signal: AbortSignal): Promise<void> {
  const model = await readModelHeader(requireModel(values.model), { offline: values.offline, signal });
  const facts = await factsOf(model);
  const text = values.json ? JSON.stringify(withMetadata(facts, model), null, 2) : textOf(facts);
  process.stdout.write(`${text}\n`);
}

async function factsOf(model: GgufModel) {
  const tensors = [...model.tensors.values()];
  const architecture = stringAt(model, "general.architecture");
  return {
    files: model.files.map((path, i) => ({ path, bytes: model.fileBytes[i]! })),
    gguf_version: model.version,
    architecture,
    name: stringAt(model, "general.name"),
    parameters: tensors.reduce((sum, { shape }) => sum + shape.reduce((product, length) => product * length, 1), 0),
    tensor_count: tensors.length,
    tensor_bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
    tensor_types: tensorTypesOf(model),
    hyperparameters: hyperparametersOf(model, architecture),
    tokenizer: tokenizerOf(model),
    chat_template: stringAt(model, "tokenizer.chat_template"),
    support: supportFacts(model),
  };
}

function supportFacts(model: GgufModel) {
  const support = supportOf(model);
  if (!support.supported) return { ...support, left_out_tensors: undefined };
  return { supported: true as const, left_out_tensors: support.leftOut };
}

function tensorTypesOf(model: GgufModel) {
  const types = new Map<string, { type: string; count: number; bytes: number }>();
  for (const { type, bytes } of model.tensors.values()) {
    const sum = types.get(type) ?? { type, count: 0, bytes: 0 };
    types.set(type, { type, count: sum.count + 1, bytes: sum.bytes + bytes });
  }
  return [...types.values()].sort((a, b) => b.bytes - a.bytes);
}

function hyperparametersOf(model: GgufModel, architecture: string | null): Record<string, unknown> {
  const prefix = `${architecture}.`;
  const own = [...model.metadata].filter(([key]) => key.startsWith(prefix));
  return Object.fromEntries(own.map(([key, value]) => [key.slice(prefix.length), plain(value)]));
}

function tokenizerOf(model: GgufModel) {
  const tokens = model.metadata.get("tokenizer.ggml.tokens");
  return {
    model: stringAt(model, "tokenizer.ggml.model"),
    pre: stringAt(model, "tokenizer.ggml.pre"),
    vocabulary_size: typeof tokens === "object" ? tokens.length : 0,
    special_tokens: Object.fromEntries(specialTokens(model, typeof tokens === "object" ? tokens : [])),
  };
}

function specialTokens(model: GgufModel, tokens: GgufArray) {
  return [...model.metadata].flatMap(([key, id]) => {
    const role = /^tokenizer\.ggml\.(\w+)_token_id$/.exec(key)?.[1];
    if (role === undefined || typeof id !== "number") return [];
    const text = tokens[id];
    return [[role, { id, text: typeof text === "string" ? text : null }] as const];
  });
}

function stringAt(model: GgufModel, key: string): string | null {
  const value = model.metadata.get(key);
  return typeof value === "string" ? value : null;
}

function withMetadata(facts: Facts, model: GgufModel) {
  return { ...facts, metadata: Object.fromEntries([...model.metadata].map(([key, value]) => [key, plain(value)])) };
}

/** A value as JSON has it: integers beyond 2^53 as text, and long arrays as their type and length. */
function plain(value: GgufValue): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object") return value;
  if (value.length > longestPrintedArray) return { type: describeValue(value), length: value.length };
  return Array.from<GgufValue>(value).map(plain);
}

function textOf(facts: Facts): string {
  const { tokenizer } = facts;
  const special = Object.entries(tokenizer.special_tokens);
  return [
    table(overview(facts)),
    section("hyperparameters", Object.entries(facts.hyperparameters).map(valueRow)),
    section("tensors", facts.tensor_types.map(tensorRow)),
    section("tokenizer", [
      ["model", tokenizer.model ?? "unknown"],
      ["pre", tokenizer.pre ?? "not given"],
      ["vocabulary", `${tokenizer.vocabulary_size} tokens`],
      ...special.map(([role, { id, text }]): Row => [role, `${id}  ${text === null ? "?" : JSON.stringify(text)}`]),
    ]),
    chatTemplate(facts.chat_template),
  ].join("\n\n");
}

function overview({ files, support, ...facts }: Facts): Row[] {
  const note = support.left_out_tensors ? `, without ${support.left_out_tensors} tensors that do not touch text` : "";
  const verdict = support.supported ? `Stellium can run it${note}` : `Stellium cannot run it: ${support.reason}`;
  return [
    ["name", facts.name ?? "not given"],
    ["architecture", facts.architecture ?? "not given"],
    ["parameters", formatCount(facts.parameters)],
    ["weights", `${formatBytes(facts.tensor_bytes)} in ${facts.tensor_count} tensors`],
    ...files.map(({ path, bytes }, i): Row => [i === 0 ? "files" : "", `${path} (${formatBytes(bytes)})`]),
    ["support", verdict],
  ];
}

function valueRow([key, value]: [string, unknown]): Row {
  const long = typeof value === "object" && value !== null && "type" in value;
  return [key, long ? String(value.type) : typeof value === "string" ? value : JSON.stringify(value, readable)];
}

/** Seven digits are what a 32-bit float holds. */
function readable(_: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
}

function tensorRow({ type, count, bytes }: Facts["tensor_types"][number]): Row {
  return [type, `${String(count).padStart(5)}  ${formatBytes(bytes)}`];
}

function chatTemplate(template: string | null): string {
  if (template === null) return "chat template: none";
  const lines = printable(template, { lines: true }).split("\n");
  return ["chat template", ...lines.map((line) => `  ${line}`.trimEnd())].join("\n");
}

function section(title: string, rows: readonly Row[]): string {
  if (rows.length === 0) return `${title}: none`;
  return `${title}\n${table(rows, "  ")}`;
}

function table(rows: readonly Row[], indent = ""): string {
  const shown = rows.map((row) => row.map((cell) => printable(cell, { limit: 300 })));
  const width = Math.max(...shown.map(([label = ""]) => label.length));
  return shown.map(([label = "", ...rest]) => `${indent}${label.padEnd(width)}  ${rest.join("  ")}`).join("\n");
}
