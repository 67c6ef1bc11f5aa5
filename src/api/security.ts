import { createHash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import { StelliumError } from "../errors.ts";

/** Who may use the API. */
export interface AccessRules {
  /** Clients have to send it; anyone may come if absent. */
  readonly apiKey?: string | undefined;
  /** Names by which clients may call this server, beside `localhost` and addresses. */
  readonly allowedHosts: readonly string[];
  /** Origins of pages that may use the API; `*` is all. */
  readonly corsOrigins: readonly string[];
}

/** Whether only this machine can connect to an address. */
export function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return plain === "localhost" || plain === "::1" || (isIP(plain) === 4 && plain.startsWith("127."));
}

/**
 * Refuses names that nobody gave this server: a page on the web could have its own name resolved to this address, and
 * would then be of the same origin as the API. An address cannot be rebound. Throws `HOST_REFUSED`.
 */
export function checkHost(hostHeader: string, { allowedHosts }: AccessRules): void {
  const host = hostHeader.replace(/:\d*$/, "").toLowerCase();
  const address = host.startsWith("[") ? host.slice(1, -1) : host;
  if (isIP(address) !== 0 || host === "localhost" || host.endsWith(".localhost")) return;
  if (allowedHosts.some((allowed) => allowed.toLowerCase() === host)) return;
  throw new StelliumError("HOST_REFUSED", { host: JSON.stringify(host.slice(0, 100)) });
}

/**
 * Headers for a page of another origin that is on the list; none for the same origin and for programs. A page that is
 * not on the list is refused, for it could have work done without reading the result. Throws `ORIGIN_REFUSED`.
 */
export function crossOriginHeaders(
  origin: string | undefined,
  host: string,
  { corsOrigins }: AccessRules,
): Record<string, string> {
  if (origin === undefined || origin === `http://${host}` || origin === `https://${host}`) return {};
  if (!corsOrigins.includes("*") && !corsOrigins.includes(origin)) {
    throw new StelliumError("ORIGIN_REFUSED", { origin: JSON.stringify(origin.slice(0, 100)) });
  }
  return { "Access-Control-Allow-Origin": origin, Vary: "Origin" };
}

/** What a page is told that asks before it asks. */
export const preflightHeaders: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
  "Access-Control-Allow-Headers": "*, Authorization, Content-Type",
  "Access-Control-Max-Age": "600",
};

/** Compares in a time that does not tell how much was right. Throws `KEY_REJECTED`. */
export function checkKey(given: string | undefined, { apiKey }: AccessRules): void {
  if (apiKey === undefined) return;
  if (!timingSafeEqual(digest(given ?? ""), digest(apiKey))) throw new StelliumError("KEY_REJECTED");
}

/** The key that a request carries, as OpenAI's clients send it, or as `X-Api-Key`. */
export function keyOf(headers: Pick<Headers, "get">): string | undefined {
  const bearer = /^Bearer\s+(.*)$/i.exec(headers.get("authorization") ?? "")?.[1];
  return bearer ?? headers.get("x-api-key") ?? undefined;
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
