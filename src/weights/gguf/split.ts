import { StelliumError } from "../../errors.ts";
import type { GgufTensor, GgufValue } from "./model.ts";
import type { GgufPart } from "./part.ts";
import { printableName } from "./printable.ts";

/** The names llama.cpp's gguf-split gives; an URL may have a query behind. */
const partName = /^(?<start>.*)-(?<number>\d{5})-of-(?<count>\d{5})(?<end>\.gguf(?:\?.*)?)$/i;

/** Paths of all the parts of the model that `path` names one of, in order; `path` alone where it names no part. */
export function partPaths(path: string): string[] {
  const { start, number, count, end } = partName.exec(path)?.groups ?? {};
  if (Number(number) < 1 || !(Number(number) <= Number(count))) return [path];
  const digits = (part: number) => String(part).padStart(5, "0");
  return Array.from({ length: Number(count) }, (_, i) => `${start}-${digits(i + 1)}-of-${count}${end}`);
}

/** Checks that a file says that it is part `index` (from 0) of `count`. Throws `GGUF_INVALID`. */
export function checkPart(part: GgufPart, index: number, count: number): void {
  const no = part.metadata.get("split.no");
  const said = part.metadata.get("split.count") ?? 1;
  // A model that was not split may say nothing, or 0.
  if (count === 1 && (said === 0 || said === 1)) return;
  if (said !== count) throw inconsistent(part, `it is one of ${shown(said)} parts, but one of ${count} by its name`);
  if (no !== index) throw inconsistent(part, `its split.no is ${shown(no)}, but ${index} by its name`);
}

/** Checks that the parts hold as many tensors as the first one announces. Throws `GGUF_INVALID`. */
export function checkTensorCount(parts: readonly GgufPart[]): void {
  const announced = parts[0]!.metadata.get("split.tensors.count");
  const found = parts.reduce((sum, part) => sum + part.tensors.size, 0);
  if (parts.length === 1 || announced === found) return;
  throw inconsistent(parts[0]!, `its split.tensors.count is ${shown(announced)}, but its parts hold ${found}`);
}

/** The tensors of all the parts. Throws `GGUF_INVALID` where two have the same. */
export function joinTensors(parts: readonly GgufPart[]): Map<string, GgufTensor> {
  const joined = new Map<string, GgufTensor>();
  for (const part of parts) {
    for (const [name, tensor] of part.tensors) {
      if (joined.has(name)) throw inconsistent(part, `an earlier part has the tensor ${printableName(name)} too`);
      joined.set(name, tensor);
    }
  }
  return joined;
}

function shown(value: GgufValue | undefined): string {
  return typeof value === "number" ? String(value) : value === undefined ? "missing" : "no number";
}

function inconsistent(part: GgufPart, reason: string): StelliumError {
  return new StelliumError("GGUF_INVALID", { path: part.path, reason, offset: 0 });
}
