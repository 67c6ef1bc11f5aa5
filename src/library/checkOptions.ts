import { z } from "zod";
import { StelliumError } from "../errors.ts";

/**
 * Checks what a caller gives, for callers without types: values out of their bounds and names that mean nothing are
 * refused before anything is done. Throws `BAD_USAGE`, naming the first of them.
 */
export function checkOptions(of: string, schema: z.ZodType, options: unknown): void {
  const result = schema.safeParse(options);
  const [issue] = result.error?.issues ?? [];
  if (issue === undefined) return;
  const where = [of, ...issue.path.map(String)].join(".");
  throw new StelliumError("BAD_USAGE", { detail: `${where}: ${issue.message}` });
}

const count = (least: number, most: number) => z.number().int().min(least).max(most).optional();
const action = z.custom((value) => typeof value === "function", "it has to be a function").optional();
const signal = z.instanceof(AbortSignal).optional();
const bytes = z.number().int().positive().optional();
const text = z.string().min(1).max(10_000).optional();

/** What is common to options of several functions. */
export const fields = { count, action, signal, bytes, text } as const;
