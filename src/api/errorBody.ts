import { StelliumError } from "../errors.ts";

/** An error as OpenAI's API writes it. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    /** The field that is wrong, such as `messages.0.role`. */
    readonly param: string | null;
    readonly code: string | null;
  };
}

const types: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
  503: "unavailable_error",
};

/** Codes that clients know by another name than ours. */
const codes: Readonly<Record<string, string>> = {
  CONTEXT_EXCEEDED: "context_length_exceeded",
  KEY_REJECTED: "invalid_api_key",
  REQUEST_UNSUPPORTED: "unsupported_value",
  BAD_USAGE: "invalid_value",
  REQUEST_INVALID: "invalid_value",
};

/** The body that tells an error. Of one that is not in the table nothing is told: it may say where files lie. */
export function errorBody(error: unknown): ErrorBody {
  const { code, status, message, values } = known(error);
  const type = types[status] ?? (status < 500 ? "invalid_request_error" : "server_error");
  const param = typeof values["param"] === "string" && values["param"] !== "" ? values["param"] : null;
  return { error: { message, type, param, code: codes[code] ?? code.toLowerCase() } };
}

/** An HTTP status for an error; a client that left gets no answer, whatever the status. */
export function statusOf(error: unknown): number {
  return known(error).status;
}

function known(error: unknown): StelliumError {
  if (error instanceof StelliumError && error.code !== "UNEXPECTED") return error;
  return new StelliumError("UNEXPECTED", { reason: "the server's log tells more" });
}
