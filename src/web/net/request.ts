import { askForKey, storedKey } from "./key.ts";

/** What the server says is wrong. */
export class ServerError extends Error {
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.code = code;
  }
}

/** Asks this server; where it wants a key, asks the user for that. Throws `ServerError`, and what `fetch` throws. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  if (storedKey() === undefined && document.documentElement.dataset["key"] === "needed") await askForKey();
  for (;;) {
    const key = storedKey();
    const headers = { ...init.headers, ...(key !== undefined && { Authorization: `Bearer ${key}` }) };
    const response = await fetch(path, { ...init, headers });
    if (response.ok) return response;
    if (response.status !== 401) throw await serverError(response);
    // Meanwhile another request may have asked, and been answered.
    if (storedKey() === key) await askForKey();
  }
}

async function serverError(response: Response): Promise<ServerError> {
  const body: unknown = await response.json().catch(() => undefined);
  return errorIn(body) ?? new ServerError(`The server answered with status ${response.status}.`, "unexpected");
}

/** The error that a body or an event tells, if it does. */
export function errorIn(body: unknown): ServerError | undefined {
  const error = (body as { error?: { message?: unknown; code?: unknown } } | undefined)?.error;
  if (error === undefined || error === null) return undefined;
  return new ServerError(String(error.message), String(error.code));
}
