import { readFileSync } from "node:fs";

/** The text of a file of `/proc` or `/sys`; undefined if there is none or it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** Reads from the running system. */
export const readSystem: ReadText = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
};

/** Larger numbers stand for "no limit": version 1 writes 2^63 less a page. */
const unlimited = 2 ** 60;

/** A count or a number of bytes; undefined for `max`, negative numbers, empty texts, and anything that means no limit. */
export function amountIn(text: string | undefined): number | undefined {
  const digits = text?.trim() ?? "";
  if (!/^\d+$/.test(digits)) return undefined;
  const value = Number(digits);
  return value < unlimited ? value : undefined;
}

/** The number after `name` in a text of one `name number` pair a line, as in `memory.stat`. */
export function figureIn(text: string | undefined, name: string): number | undefined {
  const line = text?.split("\n").find((line) => line.startsWith(`${name} `));
  return amountIn(line?.slice(name.length));
}

/** The smallest of the numbers that are known; undefined if none is. */
export function least(...values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}
