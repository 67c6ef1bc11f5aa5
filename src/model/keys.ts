import { getNumber, getNumberArray, getString, requireNumber, unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";

const most = 1 << 24;

/** See `keysOf`. */
export type Keys = ReturnType<typeof keysOf>;

/** Accessors to a model's keys `ARCHITECTURE.*`. */
export function keysOf(model: GgufModel) {
  const prefix = `${getString(model, "general.architecture")}.`;
  const count = (key: string, value: number) => {
    if (Number.isInteger(value) && value > 0 && value <= most) return value;
    throw unsupportedModel(model, `${prefix}${key} is ${value}, not a count from 1 to ${most}`);
  };
  return {
    number: (key: string) => requireNumber(model, prefix + key),
    optionalNumber: (key: string) => getNumber(model, prefix + key),
    string: (key: string) => getString(model, prefix + key),
    isTrue: (key: string) => model.metadata.get(prefix + key) === true,
    isFalse: (key: string) => model.metadata.get(prefix + key) === false,
    count: (key: string) => count(key, requireNumber(model, prefix + key)),
    optionalCount(key: string) {
      const value = getNumber(model, prefix + key);
      return value === undefined ? undefined : count(key, value);
    },
    checkedCount: count,
    /** The numbers of an array of one for each layer; undefined if there is no array. */
    values(key: string): readonly number[] | undefined {
      const value = model.metadata.get(prefix + key);
      return typeof value === "object" ? Array.from(value as ArrayLike<unknown>, Number) : undefined;
    },
    uniform: (key: string) => count(key, uniformNumber(model, prefix + key) ?? requireNumber(model, prefix + key)),
    /** A count for each layer, from an array or one number. */
    ofLayers(key: string, layers: number, otherwise?: number): readonly number[] {
      const given = this.values(key) ?? [
        getNumber(model, prefix + key) ?? otherwise ?? requireNumber(model, prefix + key),
      ];
      const counts = new Set(given).size === 1 ? Array<number>(layers).fill(given[0]!) : given.slice(0, layers);
      if (counts.length === layers) return counts.map((value) => count(key, value));
      throw unsupportedModel(model, `${prefix}${key} has ${given.length} values for ${layers} layers`);
    },
  };
}

/** A number, or an array of one number for every layer, which have to be equal. */
function uniformNumber(model: GgufModel, key: string): number | undefined {
  if (typeof model.metadata.get(key) !== "object") return getNumber(model, key);
  const values = [...new Set(getNumberArray(model, key))];
  if (values.length === 1) return values[0];
  throw unsupportedModel(model, `${key} differs between layers (${values.slice(0, 4).join(", ")} ...)`);
}

/** A factor from a key that may be absent, or 0, which means the same. @param wanted - not read unless this is true */
export function scaleOf(keys: Keys, wanted: unknown, key: string, otherwise = 1): number {
  return (wanted ? keys.optionalNumber(key) : 0) || otherwise;
}
