/** What tells one version of a file from another. */
export interface Version {
  /** Length in bytes. */
  readonly size: number;
  readonly etag: string | null;
  readonly modified: string | null;
}

const longestRetryAfter = 30_000;
const redirects = [301, 302, 303, 307, 308];
/** Answers to which another attempt may get another one. */
const passingStatus = [408, 425, 429, 500, 502, 503, 504];
/** What signed addresses answer when they have expired. */
const expiredStatus = [400, 401, 403, 404, 410];

/** Why a response is no part of a file, or undefined for one that is. `wait` in milliseconds. */
export function refusal(
  { status, headers }: Response,
  redirected: boolean,
): { reason: string; passing: boolean; wait: number } | undefined {
  if (status === 206) return undefined;
  if (status === 200) return { reason: "its server does not answer Range requests", passing: false, wait: 0 };
  const passing = passingStatus.includes(status) || (redirected && expiredStatus.includes(status));
  const seconds = Number(headers.get("retry-after") ?? 0);
  const wait = Number.isFinite(seconds) ? Math.min(longestRetryAfter, Math.max(0, seconds * 1000)) : 0;
  return { reason: `its server answers ${status}`, passing, wait };
}

/** The version of the file that a 206 response is a part of; a text where it is not the part that was asked for. */
export function rangeOf({ headers }: Response, offset: number, length: number): Version | string {
  const encoding = encodingOf(headers);
  if (encoding !== undefined) return encoding;
  const range = headers.get("content-range") ?? "";
  const [, first, last, size] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(range) ?? [];
  if (size === undefined)
    return `its server does not say which bytes it sends (Content-Range: ${JSON.stringify(range)})`;
  if (Number(first) === offset && Number(last) === offset + length - 1 && Number(last) < Number(size)) {
    return { size: Number(size), etag: headers.get("etag"), modified: headers.get("last-modified") };
  }
  return `its server sends ${range} where bytes ${offset}-${offset + length - 1} were asked for`;
}

/** The version of the file that a 200 response is all of; a text where it is not, or does not say how long it is. */
export function versionOf({ headers }: Response): Version | string {
  const encoding = encodingOf(headers);
  if (encoding !== undefined) return encoding;
  const length = headers.get("content-length") ?? "";
  if (!/^\d{1,15}$/.test(length)) return "its server neither answers Range requests nor says how long it is";
  return { size: Number(length), etag: headers.get("etag"), modified: headers.get("last-modified") };
}

function encodingOf(headers: Headers): string | undefined {
  const encoding = headers.get("content-encoding") ?? "identity";
  return encoding === "identity" ? undefined : `it comes encoded as ${encoding}`;
}

/** How a file differs from the one that was opened, or undefined where it does not. */
export function changeOf(opened: Version, now: Version): string | undefined {
  if (opened.size !== now.size) return `it had ${opened.size} bytes and has ${now.size}`;
  const differ = (a: string | null, b: string | null) => a !== null && b !== null && a !== b;
  if (differ(opened.etag, now.etag)) return `its ETag was ${opened.etag} and is ${now.etag}`;
  if (opened.etag === null && differ(opened.modified, now.modified)) {
    return `it was of ${opened.modified} and is of ${now.modified}`;
  }
  return undefined;
}

/** Where a response sends on to; undefined where it does not, and an error where one should not follow. */
export function checkedRedirect(response: Response, from: string): string | Error | undefined {
  if (!redirects.includes(response.status)) return undefined;
  const location = response.headers.get("location") ?? "";
  if (location === "" || !URL.canParse(location, from)) return new Error("it redirects to nowhere");
  const next = new URL(location, from);
  const secure = new URL(from).protocol === "https:";
  if (next.protocol === "https:" || (next.protocol === "http:" && !secure)) return next.href;
  return new Error(`it redirects from ${secure ? "https" : "http"} to ${next.protocol.slice(0, -1)}`);
}
