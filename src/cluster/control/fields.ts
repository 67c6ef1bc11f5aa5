import { z } from "zod";
import { deviceIdPattern } from "../identity/credential.ts";

/** Bounded fields that messages are made of: no string, array or number of a message is without a limit. */

/** Most devices of a cluster. */
export const mostDevices = 64;
/** See `mostBlocks` of slices. */
const mostBlocks = 2 ** 16;
const deepest = 32;

/** Text that may be printed on a terminal as it is: no control characters, no direction marks. */
export function textField(longest: number, shortest = 0) {
  return z
    .string()
    .min(shortest)
    .max(longest)
    .regex(/^[^\p{C}\p{Zl}\p{Zp}]*$/u, "has characters that cannot be printed");
}

/** Makes any text fit a `text` field: what cannot be printed becomes a blank, and what is too long is cut. */
export function fittingText(anything: string, longest: number): string {
  const line = anything.replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  return line.length <= longest ? line : `${line.slice(0, longest - 3).replace(/[\ud800-\udbff]$/, "")}...`;
}

/** Whole number from 0 to `most`. */
export function whole(most: number = Number.MAX_SAFE_INTEGER) {
  return z.int().min(0).max(most);
}

/** Bytes, or a count of anything. */
export const amount = whole();
/** A measured number. */
export const measure = z.number().min(-1e18).max(1e18);
export const rank = whole(mostDevices - 1);
export const devices = z.int().min(1).max(mostDevices);
export const port = z.int().min(1).max(65_535);
/** Index of a block of a slice. */
export const block = whole(mostBlocks - 1);
export const blocks = z.array(block).min(1).max(mostBlocks);
export const stream = whole(2 ** 32 - 1);
/** Name or address of a host; of an IPv6 address without brackets, with zone. */
export const host = z.string().regex(/^[0-9A-Za-z.:%_-]{1,253}$/, "is no host");
/** See `sliceName`. */
export const sliceNameField = z.string().regex(/^[0-9a-f]{16}-[0-9a-f]{16}$/, "is no slice's name");
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "is no SHA-256 in hex");
/** See `deviceIdPattern`. */
export const deviceId = z.string().regex(deviceIdPattern, "is no id of a device");
/** A key of 32 bytes, in base64. */
export const key = z.string().regex(/^[A-Za-z0-9+/]{43}=$/, "is no key of 32 bytes in base64");
export const longestReason = 512;
export const reason = textField(longestReason);

/** Numbers by name. */
export const figures = z
  .record(z.string().regex(/^[a-zA-Z][a-zA-Z0-9_]{0,63}$/), measure)
  .refine((record) => Object.keys(record).length <= 256, "has more than 256 entries");

/** Plain data that others check; here, only that it is not nested so deeply as to exhaust a stack. */
export const plainData = z
  .unknown()
  .refine((value) => value !== undefined, "is missing")
  .refine((value) => isShallow(value), `is nested more than ${deepest} deep`);

function isShallow(value: unknown): boolean {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > deepest) return false;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []));
  }
  return true;
}
