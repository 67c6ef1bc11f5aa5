import type { z } from "zod";
import { StelliumError } from "../errors.ts";
import { parseJson } from "../serving/json.ts";
import { type BodyText, bodyText } from "./bodyText.ts";

/** Memory that bodies may take, all together, while requests are prepared, in bytes. */
const mostBytesInUse = 32 * 2 ** 20;
/** What an element or a field takes, beside its text. */
const bytesPerValue = 48;
let bytesInUse = 0;

/**
 * Hands the JSON object that a request carries to `use`, as `schema` wants it; whatever it calls itself, for many clients
 * say nothing. `use` returns what is needed of it: then its memory is free for others.
 *
 * Throws what `bodyText` and `use` do, `BODIES_IN_USE`, and `REQUEST_INVALID` with the field that is wrong.
 */
export async function readBody<T, R>(
  request: Request,
  schema: z.ZodType<T>,
  use: (body: T) => R | Promise<R>,
): Promise<R> {
  const body = await bodyText(request);
  using _ = memoryFor(body);
  return await use(validated(schema, await parsed(body.text)));
}

/** Counts the memory of a body until it is disposed. */
function memoryFor({ text, values }: BodyText): Disposable {
  const bytes = text.length + values * bytesPerValue;
  if (bytesInUse + bytes > mostBytesInUse) throw new StelliumError("BODIES_IN_USE", { most: mostBytesInUse });
  bytesInUse += bytes;
  return {
    [Symbol.dispose]: () => {
      bytesInUse -= bytes;
    },
  };
}

async function parsed(text: string): Promise<unknown> {
  try {
    return await parseJson(text);
  } catch (error) {
    throw new StelliumError("REQUEST_INVALID", { reason: "the body is not valid JSON" }, { cause: error });
  }
}

function validated<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = deepestIssue(result.error.issues[0]!);
  const param = path.map(String).join(".").slice(0, 200);
  throw new StelliumError("REQUEST_INVALID", { reason: param === "" ? message : `${param}: ${message}`, param });
}

/** Of a value that fits none of several shapes, what is wrong with it as the shape that it resembles most. */
function deepestIssue(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code !== "invalid_union") return issue;
  const inner = issue.errors.flatMap(([first]) => (first === undefined ? [] : [deepestIssue(first)]));
  const deep = inner.sort((a, b) => b.path.length - a.path.length)[0];
  if (deep === undefined || deep.path.length === 0) return { path: issue.path, message: "Invalid input" };
  return { path: [...issue.path, ...deep.path], message: deep.message };
}
