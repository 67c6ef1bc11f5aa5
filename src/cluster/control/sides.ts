import type { z } from "zod";
import { fittingText } from "./fields.ts";
import { Violation } from "./frames.ts";
import { type CoordinatorMessage, coordinatorMessage, type WorkerMessage, workerMessage } from "./messages.ts";

/** What every message has, and what those have that the channel itself answers. */
export interface AnyMessage {
  readonly type: string;
  readonly reason?: string;
  readonly removed?: boolean | undefined;
  readonly sequence?: number;
}

/** Which messages an end of the channel takes and sends, and how it says good-bye. */
export interface Side<In, Out> {
  readonly receives: z.ZodType<In>;
  readonly sends: z.ZodType<Out>;
  readonly goodbye: (reason: string, removed: boolean) => Out;
}

/** The coordinator's end. */
export const coordinatorSide: Side<WorkerMessage, CoordinatorMessage> = {
  receives: workerMessage,
  sends: coordinatorMessage,
  goodbye: (reason, removed) => ({ type: "shutdown", reason, ...(removed && { removed }) }),
};

/** A worker's end. */
export const workerSide: Side<CoordinatorMessage, WorkerMessage> = {
  receives: coordinatorMessage,
  sends: workerMessage,
  goodbye: (reason) => ({ type: "leave", reason }),
};

/** Reads a JSON message by its schema. Throws `Violation`. */
export function parseMessage<T>(schema: z.ZodType<T>, payload: Buffer): T {
  const result = schema.safeParse(parseJson(payload));
  if (result.success) return result.data;
  throw new Violation(`a message is not valid: ${firstIssue(result.error)}`);
}

/** What is wrong with a message, in one short printable line. */
export function firstIssue({ issues }: z.ZodError): string {
  const [issue] = issues;
  const path = issue && issue.path.length > 0 ? `${issue.path.map(String).join(".")}: ` : "";
  return fittingText(`${path}${issue?.message ?? "unknown"}`, 200);
}

function parseJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString("utf8"));
  } catch {
    throw new Violation("a message is not JSON");
  }
}
