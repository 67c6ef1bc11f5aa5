import { StelliumError } from "../../errors.ts";
import type { GgufModel, GgufValue } from "./model.ts";

/** Numbers of any width, indexed from 0. */
export type NumberArray = ArrayLike<number> & Iterable<number>;

type Metadata = Pick<GgufModel, "files" | "metadata">;

/** The number under `key`, or undefined where there is none. Throws `MODEL_UNSUPPORTED` where it is no number below 2^53. */
export function getNumber(model: Metadata, key: string): number | undefined {
  return typed(model, key, "a number", (value) => (typeof value === "number" ? value : undefined));
}

/** The text under `key`, or undefined where there is none. Throws `MODEL_UNSUPPORTED` where it is no string. */
export function getString(model: Metadata, key: string): string | undefined {
  return typed(model, key, "a string", (value) => (typeof value === "string" ? value : undefined));
}

/** The boolean under `key`, or undefined where there is none. Throws `MODEL_UNSUPPORTED` where it is no boolean. */
export function getBoolean(model: Metadata, key: string): boolean | undefined {
  return typed(model, key, "a boolean", (value) => (typeof value === "boolean" ? value : undefined));
}

/** The texts under `key`, or undefined where there are none. Throws `MODEL_UNSUPPORTED` where it is no array of strings. */
export function getStringArray(model: Metadata, key: string): readonly string[] | undefined {
  return typed(model, key, "an array of strings", asStrings);
}

/** The numbers under `key`, or undefined where there are none. Throws `MODEL_UNSUPPORTED` where it is no array of them. */
export function getNumberArray(model: Metadata, key: string): NumberArray | undefined {
  return typed(model, key, "an array of numbers", asNumbers);
}

/** Like `getNumber`, but throws `MODEL_UNSUPPORTED` where the key is absent. */
export function requireNumber(model: Metadata, key: string): number {
  return present(model, key, getNumber(model, key));
}

/** Like `getString`, but throws `MODEL_UNSUPPORTED` where the key is absent. */
export function requireString(model: Metadata, key: string): string {
  return present(model, key, getString(model, key));
}

/** Like `getBoolean`, but throws `MODEL_UNSUPPORTED` where the key is absent. */
export function requireBoolean(model: Metadata, key: string): boolean {
  return present(model, key, getBoolean(model, key));
}

/** Like `getStringArray`, but throws `MODEL_UNSUPPORTED` where the key is absent. */
export function requireStringArray(model: Metadata, key: string): readonly string[] {
  return present(model, key, getStringArray(model, key));
}

/** Like `getNumberArray`, but throws `MODEL_UNSUPPORTED` where the key is absent. */
export function requireNumberArray(model: Metadata, key: string): NumberArray {
  return present(model, key, getNumberArray(model, key));
}

/** What a value is, in words: `string`, `number`, `array of 3 strings`, `array of 8 float32`. */
export function describeValue(value: GgufValue): string {
  if (typeof value === "bigint") return "64-bit integer";
  if (typeof value !== "object") return typeof value;
  return `array of ${value.length} ${elementType(value)}`;
}

function elementType(array: Extract<GgufValue, object>): string {
  if (!Array.isArray(array)) return array.constructor.name.replace("Array", "").replace("Big", "").toLowerCase();
  const [first] = array;
  if (first === undefined) return "elements";
  return typeof first === "object" ? "arrays" : `${typeof first}s`;
}

function asStrings(value: GgufValue): string[] | undefined {
  const strings = Array.isArray(value) && value.every((element) => typeof element === "string");
  return strings ? (value as string[]) : undefined;
}

function asNumbers(value: GgufValue): NumberArray | undefined {
  if (typeof value !== "object") return undefined;
  if (Array.isArray(value)) return value.length === 0 ? [] : undefined;
  if (!(value instanceof BigInt64Array || value instanceof BigUint64Array)) return value;
  const numbers = Array.from(value as Iterable<bigint>, Number);
  return numbers.every(Number.isSafeInteger) ? numbers : undefined;
}

function typed<T>(model: Metadata, key: string, wanted: string, convert: (value: GgufValue) => T | undefined) {
  const value = model.metadata.get(key);
  if (value === undefined) return undefined;
  const converted = convert(value);
  if (converted !== undefined) return converted;
  throw unsupportedModel(model, `${key} is not ${wanted} but ${described(value)}`);
}

function described(value: GgufValue): string {
  return `${typeof value === "object" ? "an" : "a"} ${describeValue(value)}`;
}

function present<T>(model: Metadata, key: string, value: T | undefined): T {
  if (value === undefined) throw unsupportedModel(model, `it has no metadata key ${key}`);
  return value;
}

/** The error that refuses a model for a reason. */
export function unsupportedModel(model: Metadata, reason: string): StelliumError {
  return new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? "the model", reason });
}
