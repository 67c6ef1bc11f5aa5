import type { z } from "zod";
import { StelliumError } from "../errors.ts";

/** Most bytes of a request's body. */
export const mostBodyBytes = 8 * 2 ** 20;

/** Most bytes of all bodies that are being read. */
const mostBytesAtOnce = 4 * mostBodyBytes;
let bytesAtOnce = 0;

/** JSON that nests deeper is nobody's request. */
const deepest = 128;

/**
 * The JSON object that a request carries, as `schema` wants it; whatever it calls itself, for many clients say nothing.
 * Throws `BODY_TOO_LARGE`, `BODIES_TOO_LARGE`, and `REQUEST_INVALID` with the field that is wrong.
 */
export async function readBody<T>(request: Request, schema: z.ZodType<T>): Promise<T> {
  const value = parseJson(await readText(request));
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = deepestIssue(result.error.issues[0]!);
  const param = path.map(String).join(".").slice(0, 200);
  throw new StelliumError("REQUEST_INVALID", { reason: param === "" ? message : `${param}: ${message}`, param });
}

/** Reads no more than may come, whatever the headers say. */
async function readText(request: Request): Promise<string> {
  const tooLarge = new StelliumError("BODY_TOO_LARGE", { most: mostBodyBytes });
  if (Number(request.headers.get("content-length") ?? 0) > mostBodyBytes) throw tooLarge;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of bodyOf(request)) {
      bytes += chunk.length;
      bytesAtOnce += chunk.length;
      if (bytes > mostBodyBytes) throw tooLarge;
      if (bytesAtOnce > mostBytesAtOnce) throw new StelliumError("BODIES_TOO_LARGE", { most: mostBytesAtOnce });
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString("utf8");
  } finally {
    bytesAtOnce -= bytes;
  }
}

async function* bodyOf(request: Request): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of request.body ?? []) yield chunk as Uint8Array;
  } catch (error) {
    throw new StelliumError("ABORTED", { reason: "the request ended before its body did" }, { cause: error });
  }
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
