import { isIPv4 } from "node:net";
import { basename } from "node:path";
import { StelliumError } from "../errors.ts";

/** Whether a model is named by an URL, rather than by a path. */
export function isUrl(name: string): boolean {
  return /^https?:\/\//i.test(name);
}

/** The file's name in a path or an URL, without what may follow in an URL. */
export function fileNameOf(name: string): string {
  return basename(isUrl(name) && URL.canParse(name) ? new URL(name).pathname : name);
}

/**
 * Throws `BAD_USAGE` for an URL that is none, that has a password in it, or that would let anyone on the way change the
 * model: `http://` is for this machine and its own network.
 */
export function checkUrl(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined) throw refused(`${url} is not a valid URL`);
  if (parsed.username !== "" || parsed.password !== "")
    throw refused("an URL with a user name or password is not read");
  if (parsed.protocol === "https:" || isNearby(parsed.hostname)) return;
  throw refused(`${parsed.host} is not in this network, and http:// is not safe beyond it; use https://`);
}

/** Whether a host is this machine or in a private network: by its address, or by a name that only those have. */
function isNearby(host: string): boolean {
  if (isIPv4(host)) return privateV4.some((pattern) => pattern.test(host));
  if (host.startsWith("[")) return /^\[(::1\]|f[cd]|fe[89ab])/i.test(host);
  return !host.includes(".") || /\.(local|localhost|lan|home|internal|home\.arpa)$/i.test(host);
}

const privateV4 = [/^127\./, /^10\./, /^192\.168\./, /^169\.254\./, /^172\.(1[6-9]|2\d|3[01])\./];

function refused(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
