import { anyOf, literal } from "../gbnfWriter.ts";

/** A decimal number as a whole number of units of 10^-scale. */
type Scaled = bigint;

/** Bounds of a number, as a JSON schema has them. */
export interface Bounds {
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly above?: number | undefined;
  readonly below?: number | undefined;
}

const digits = "[0-9]{0,15}";

/** Whole numbers within bounds; undefined where there are none. */
export function integerWithin(bounds: Bounds): string | undefined {
  const scale = scaleOf(bounds);
  const unit = 10n ** BigInt(scale);
  const { low, high } = closed(bounds, scale, 1n);
  const least = low === undefined ? undefined : ceilDiv(low, unit);
  const most = high === undefined ? undefined : -ceilDiv(-high, unit);
  return signed(least, most, naturalWithin);
}

/** Decimal numbers without exponent within bounds; undefined where there are none. An open bound is left by 10^-6. */
export function decimalWithin(bounds: Bounds): string | undefined {
  const scale = scaleOf(bounds) + 6;
  const { low, high } = closed(bounds, scale, 1n);
  return signed(low, high, (from, to) => unsignedDecimal(from, to, scale));
}

/** Digits behind the point that the bounds need. */
function scaleOf(bounds: Bounds): number {
  return Math.max(0, ...Object.values(bounds).map((bound) => decimalOf(bound as number | undefined)[1].length));
}

/** A number's digits before and behind the point. */
function decimalOf(value = 0): [whole: string, fraction: string] {
  const [mantissa = "", exponent = "0"] = String(Math.abs(value)).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  const shift = Number(exponent);
  if (shift >= 0) return [whole + fraction.slice(0, shift).padEnd(shift, "0"), fraction.slice(shift)];
  return ["0", whole.padStart(-shift, "0") + fraction];
}

function toScaled(value: number, scale: number): Scaled {
  const [whole, fraction] = decimalOf(value);
  const magnitude = BigInt(whole + fraction.padEnd(scale, "0"));
  return value < 0 ? -magnitude : magnitude;
}

function closed({ min, max, above, below }: Bounds, scale: number, step: bigint) {
  const lows = [
    ...(min === undefined ? [] : [toScaled(min, scale)]),
    ...(above === undefined ? [] : [toScaled(above, scale) + step]),
  ];
  const highs = [
    ...(max === undefined ? [] : [toScaled(max, scale)]),
    ...(below === undefined ? [] : [toScaled(below, scale) - step]),
  ];
  const low = lows.reduce<bigint | undefined>((most, x) => (most === undefined || x > most ? x : most), undefined);
  const high = highs.reduce<bigint | undefined>(
    (least, x) => (least === undefined || x < least ? x : least),
    undefined,
  );
  return { low, high };
}

function ceilDiv(value: bigint, unit: bigint): bigint {
  const quotient = value / unit;
  return value > 0n && value % unit !== 0n ? quotient + 1n : quotient;
}

/** Negative numbers are the positive ones of the mirrored range, with a sign. */
function signed(
  low: bigint | undefined,
  high: bigint | undefined,
  unsigned: (low: bigint, high: bigint | undefined) => string | undefined,
): string | undefined {
  if (low !== undefined && high !== undefined && low > high) return undefined;
  const larger = (a: bigint, b: bigint) => (a > b ? a : b);
  const mirrored = high === undefined ? 1n : larger(1n, -high);
  const negative = low === undefined || low < 0n ? unsigned(mirrored, low === undefined ? undefined : -low) : undefined;
  const positive = high === undefined || high >= 0n ? unsigned(larger(0n, low ?? 0n), high) : undefined;
  const parts = [...(negative === undefined ? [] : [`"-" ${negative}`]), ...(positive === undefined ? [] : [positive])];
  return parts.length === 0 ? undefined : anyOf(parts);
}

/** Whole numbers from `low` to `high` in their shortest spelling. */
function naturalWithin(low: bigint, high: bigint | undefined): string | undefined {
  if (high !== undefined && low > high) return undefined;
  const least = String(low);
  const most = high === undefined ? undefined : String(high);
  const longest = most?.length ?? Math.max(16, least.length + 1);
  const parts = Array.from({ length: longest - least.length + 1 }, (_, i) => {
    const length = least.length + i;
    const from = i === 0 ? least : `1${"0".repeat(length - 1)}`;
    return sameLength(from, most?.length === length ? most : "9".repeat(length));
  });
  return anyOf(parts);
}

/** Digits from `low` to `high`, which have the same number of them. */
function sameLength(low: string, high: string): string {
  if (/^0*$/.test(low) && /^9*$/.test(high)) return low === "" ? '""' : `[0-9]{${low.length}}`;
  const [a, b] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  if (a === b) return `${literal(low[0]!)} ${sameLength(lowRest, highRest)}`;
  const rest = lowRest.length;
  return anyOf([
    `${literal(low[0]!)} ${sameLength(lowRest, "9".repeat(rest))}`,
    ...(b - a > 1 ? [`[${a + 1}-${b - 1}] [0-9]{${rest}}`] : []),
    `${literal(high[0]!)} ${sameLength("0".repeat(rest), highRest)}`,
  ]);
}

/** From `low` to `high`, in units of 10^-scale. */
function unsignedDecimal(low: Scaled, high: Scaled | undefined, scale: number): string | undefined {
  if (high !== undefined && low > high) return undefined;
  const [lowWhole, lowFraction] = split(low, scale);
  if (high === undefined) {
    const above = naturalWithin(lowWhole + 1n, undefined)!;
    return anyOf([
      `${literal(String(lowWhole))} ${fraction(lowFraction, undefined)}`,
      `${above} ${fraction("", undefined)}`,
    ]);
  }
  const [highWhole, highFraction] = split(high, scale);
  if (lowWhole === highWhole) return `${literal(String(lowWhole))} ${fraction(lowFraction, highFraction)}`;
  const between = naturalWithin(lowWhole + 1n, highWhole - 1n);
  return anyOf([
    `${literal(String(lowWhole))} ${fraction(lowFraction, undefined)}`,
    ...(between === undefined ? [] : [`${between} ${fraction("", undefined)}`]),
    `${literal(String(highWhole))} ${fraction("", highFraction)}`,
  ]);
}

/** The whole part, and the digits of the fraction without zeros at their end. */
function split(value: Scaled, scale: number): [whole: bigint, fraction: string] {
  const unit = 10n ** BigInt(scale);
  const behind = String(value % unit).padStart(scale, "0");
  return [value / unit, behind.replace(/0+$/, "")];
}

/** A point and digits, or nothing: fractions from 0.`low` to 0.`high`, to all if undefined. */
function fraction(low: string, high: string | undefined): string {
  const withPoint = `"." ${anyOf(fractionDigits(low, high))}`;
  return low === "" ? `(${withPoint})?` : withPoint;
}

/** At least one digit; what is left of a bound may be empty, which is zero. */
function fractionDigits(low: string, high: string | undefined): string[] {
  const least = Number(low[0] ?? 0);
  const most = high === undefined ? 9 : Number(high[0] ?? 0);
  const [lowRest, highRest] = [low.slice(1), high?.slice(1)];
  if (least === most) return [`"${least}" ${more(lowRest, highRest)}`];
  const [from, to] = [low === "" ? least : least + 1, high === undefined ? most : most - 1];
  return [
    ...(low === "" ? [] : [`"${least}" ${more(lowRest, undefined)}`]),
    ...(from <= to ? [`[${from}-${to}] ${digits}`] : []),
    ...(high === undefined ? [] : [`"${most}" ${more("", highRest)}`]),
  ];
}

/** More digits, or none where that is enough. */
function more(low: string, high: string | undefined): string {
  if (low === "" && high === undefined) return digits;
  if (low === "" && high === "") return '"0"{0,15}';
  return anyOf([...(low === "" ? ['""'] : []), ...fractionDigits(low, high)]);
}
