import type { z } from "zod";
import { StelliumError } from "../errors.ts";
import { bodyText } from "./bodyText.ts";

/** JSON that nests deeper is nobody's request. */
const deepest = 128;

/**
 * The JSON object that a request carries, as `schema` wants it; whatever it calls itself, for many clients say nothing.
 * Throws what `bodyText` does, and `REQUEST_INVALID` with the field that is wrong.
 */
export async function readBody<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  const value = parseJson(await bodyText(request));
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = deepestIssue(result.error.issues[0]!);
  const param = path.map(String).join(".").slice(0, 200);
  throw new StelliumError("REQUEST_INVALID", { reason: param === "" ? message : `${param}: ${message}`, param });
}

function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (depthOf(value) <= deepest) return value;
  } catch (error) {
    const reason = "the body is not valid JSON";
    throw new StelliumError("REQUEST_INVALID", { reason }, { cause: error });
  }
  throw new StelliumError("REQUEST_INVALID", { reason: `the body nests deeper than ${deepest} levels` });
}

/** Levels of arrays and objects, counted no further than a little beyond `deepest`. Not recursive: nor is JSON.parse. */
function depthOf(value: unknown): number {
  let level = [value];
  let depth = 0;
  for (; depth <= deepest; depth++) {
    const next: unknown[] = [];
    for (const element of level) {
      if (typeof element !== "object" || element === null) continue;
      for (const child of Object.values(element)) next.push(child);
    }
    if (next.length === 0) return depth;
    level = next;
  }
  return depth;
}

/** Of a value that fits none of several shapes, what is wrong with it as the shape that it resembles most. */
function deepestIssue(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code !== "invalid_union") return issue;
  const inner = issue.errors.flatMap(([first]) => (first === undefined ? [] : [deepestIssue(first)]));
  const deep = inner.sort((a, b) => b.path.length - a.path.length)[0];
  if (deep === undefined || deep.path.length === 0) return { path: issue.path, message: "Invalid input" };
  return { path: [...issue.path, ...deep.path], message: deep.message };
}
