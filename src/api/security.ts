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
  access: AccessRules,
): Record<string, string> {
  if (origin === undefined || origin === `http://${host}` || origin === `https://${host}`) return {};
  if (!isListed(origin, access)) {
    throw new StelliumError("ORIGIN_REFUSED", { origin: JSON.stringify(origin.slice(0, 100)) });
  }
  return { "Access-Control-Allow-Origin": origin, Vary: "Origin" };
}

/**
 * Headers of every answer of the API: it is data, which is not to be taken for anything else, embedded by other origins,
 * shown in a frame, or kept by a browser.
 */
export const apiHeaders: Readonly<Record<string, string>> = {
  "X-Content-Type-Options": "nosniff",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "X-Frame-Options": "DENY",
  "Cache-Control": "no-store",
};

/**
 * Refuses what a browser sends for a page of another site, images, scripts and links included, unless the page's origin is
 * on the list. Programs say nothing of sites. A link to the dashboard (`isPage`) may be followed. Throws `SITE_REFUSED`.
 */
export function checkSite(headers: Pick<Headers, "get">, isPage: boolean, access: AccessRules): void {
  const site = headers.get("sec-fetch-site") ?? "none";
  if (site === "none" || site === "same-origin" || isListed(headers.get("origin"), access)) return;
  const followed = headers.get("sec-fetch-mode") === "navigate" && headers.get("sec-fetch-dest") === "document";
  if (!isPage || !followed) throw new StelliumError("SITE_REFUSED");
}

function isListed(origin: string | null, { corsOrigins }: AccessRules): boolean {
  return origin !== null && (corsOrigins.includes("*") || corsOrigins.includes(origin));
}

/** What a page is told that asks before it asks. */
export const preflightHeaders: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
  "Access-Control-Allow-Headers": "*, Authorization, Content-Type",
  "Access-Control-Max-Age": "600",
};

/** Throws `KEY_REJECTED` unless the key is right, or there is none. */
export function checkKey(given: string | undefined, { apiKey }: AccessRules): void {
  if (apiKey !== undefined && !isKey(given, apiKey)) throw new StelliumError("KEY_REJECTED");
}

/** Compares in a time that does not tell how much was right. */
export function isKey(given: string | undefined, key: string): boolean {
  return timingSafeEqual(digest(given ?? ""), digest(key));
}

/** The key that a request carries, as OpenAI's clients send it, or as `X-Api-Key`. */
export function keyOf(headers: Pick<Headers, "get">): string | undefined {
  const bearer = /^Bearer\s+(.*)$/i.exec(headers.get("authorization") ?? "")?.[1];
  return bearer ?? headers.get("x-api-key") ?? undefined;
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
