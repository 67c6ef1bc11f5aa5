import type { DeviceFigures } from "../library/planning/deviceFigures.ts";
import type { LinkFigures } from "../plan/latency.ts";
import { mostRanks } from "../plan/shares.ts";
import { type Option, refused } from "./arguments/option.ts";
import { parseSize } from "./format.ts";

type Spelling = Pick<Option<unknown>, "flag" | "value" | "summary">;

/** A size in bytes, as in `3GB`. */
export function sizeOption(spelling: Spelling): Option<number | undefined> {
  const read = (given: readonly string[]) => {
    const text = given.at(-1);
    const size = text === undefined ? undefined : bytesOf(text);
    if (text === undefined || size !== undefined) return size;
    throw refused(spelling, text, "a size such as 3GB");
  };
  return { ...spelling, read };
}

/** Sizes in bytes by device, as in `3GB` or `768MB,512MB`. */
export function sizesOption(spelling: Spelling): Option<DeviceFigures | undefined> {
  return { ...spelling, read: listOf(spelling, "sizes such as 3GB or 768MB,512MB", bytesOf) };
}

/** Bytes per second by device, as in `20GB/s` or `20GB/s,8GB/s`. */
export function ratesOption(spelling: Spelling): Option<DeviceFigures | undefined> {
  return { ...spelling, read: listOf(spelling, "rates such as 1GB/s or 2GB/s,500MB/s", rateOf) };
}

/** One-way latency and rate of links, as in `1ms,300mbit`. */
export function linkOption(spelling: Spelling): Option<LinkFigures | undefined> {
  const read = (given: readonly string[]) => {
    const text = given.at(-1);
    if (text === undefined) return undefined;
    const [latency = "", rate = "", ...rest] = text.split(",");
    const [latencyMs, bytesPerSecond] = [millisecondsOf(latency), rateOf(rate)];
    if (latencyMs !== undefined && bytesPerSecond !== undefined && rest.length === 0) {
      return { latencyMs, bytesPerSecond };
    }
    throw refused(spelling, text, "a latency and a rate, such as 1ms,300mbit or 200us,1gbit");
  };
  return { ...spelling, read };
}

function listOf(spelling: Spelling, wanted: string, read: (text: string) => number | undefined) {
  return (given: readonly string[]): DeviceFigures | undefined => {
    const text = given.at(-1);
    if (text === undefined) return undefined;
    const figures = text.split(",").map(read);
    if (figures.length <= mostRanks && figures.every((figure) => figure !== undefined)) return figures;
    throw refused(spelling, text, wanted);
  };
}

function bytesOf(text: string): number | undefined {
  try {
    return parseSize(text);
  } catch {
    return undefined;
  }
}

const bitRates = { k: 1e3, m: 1e6, g: 1e9 } as const;

/** Bytes per second, of `1GB/s`, `1GB`, `300mbit` or `1 gbit/s`. */
function rateOf(text: string): number | undefined {
  const bits = /^(?<number>\d+(?:\.\d+)?) ?(?<prefix>[kmg])bit(?:\/s|ps)?$/i.exec(text.trim())?.groups;
  if (bits === undefined) return bytesOf(text.trim().replace(/\/s$/, ""));
  const rate = (Number(bits["number"]) * bitRates[bits["prefix"]!.toLowerCase() as keyof typeof bitRates]) / 8;
  return rate > 0 && Number.isSafeInteger(Math.ceil(rate)) ? rate : undefined;
}

const timeUnits = { us: 1e-3, ms: 1, s: 1e3 } as const;
const longestMs = 60_000;

function millisecondsOf(text: string): number | undefined {
  const { number, unit } = /^(?<number>\d+(?:\.\d+)?) ?(?<unit>us|ms|s)$/.exec(text.trim())?.groups ?? {};
  const ms = Number(number) * timeUnits[unit as keyof typeof timeUnits];
  return ms >= 0 && ms <= longestMs ? ms : undefined;
}
