import { StelliumError } from "../errors.ts";

const decimalUnits = ["B", "kB", "MB", "GB", "TB", "PB"];
const countScales = ["", "thousand", "million", "billion", "trillion"];
const exponents = { "": 0, k: 1, m: 2, g: 3, t: 4, p: 5 } as const;
const sizePattern = /^(?<number>\d+(?:\.\d+)?) ?(?:(?<prefix>[kmgtp])(?<binary>i)?)?b?$/i;

/** A number of bytes in decimal units with up to three digits, such as `3.83 GB`, `700 MB` or `12 B`. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, decimalUnits);
}

/** A count with up to three digits and its scale in words, such as `8.03 billion` or `512`. */
export function formatCount(count: number): string {
  return scaled(count, countScales).trimEnd();
}

/** A time in one or two units, rounded up, such as `90 s`, `12 min` or `3 h 5 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 120) return `${whole} s`;
  const minutes = Math.ceil(whole / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * Bytes of a size as a person writes it: `3GB`, `1.5G`, `512 mb` are decimal, `700MiB` and `1Gi` binary, `4096` bytes.
 * Throws `BAD_USAGE` for anything else, for zero, and beyond 2^53.
 */
export function parseSize(text: string): number {
  const { number, prefix = "", binary } = sizePattern.exec(text.trim())?.groups ?? {};
  const base = binary ? 1024 : 1000;
  const bytes = Math.floor(Number(number) * base ** exponents[prefix.toLowerCase() as keyof typeof exponents]);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new StelliumError("BAD_USAGE", {
    detail: `${JSON.stringify(text)} is not a size such as 3GB, 512MB or 700MiB`,
  });
}

/** Scales by the power of 1000 at which at most three digits stand before the point, once rounded. */
function scaled(value: number, units: readonly string[]): string {
  const fitting = units.findIndex((_, i) => threeDigits(value / 1000 ** i) < 1000);
  const exponent = fitting === -1 ? units.length - 1 : fitting;
  return `${threeDigits(value / 1000 ** exponent)} ${units[exponent]}`;
}

function threeDigits(value: number): number {
  return value < 1000 ? Number(value.toPrecision(3)) : Math.round(value);
}
