import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { StelliumError } from "../errors.ts";
import type { ApiContext } from "./context.ts";

/** The dashboard's files by path. */
const files: Readonly<Record<string, { readonly name: string; readonly type: string }>> = {
  "/": { name: "index.html", type: "text/html; charset=utf-8" },
  "/dashboard.js": { name: "dashboard.js", type: "text/javascript; charset=utf-8" },
  "/dashboard.css": { name: "dashboard.css", type: "text/css; charset=utf-8" },
  "/newsreader-400.woff2": { name: "newsreader-400.woff2", type: "font/woff2" },
  "/newsreader-600.woff2": { name: "newsreader-600.woff2", type: "font/woff2" },
};

/** Paths of the dashboard. They hold no secrets, and need no key: a page has to be there to ask for it. */
export const dashboardPaths: readonly string[] = Object.keys(files);

/** Nothing but the page's own files and this server. Nothing that a model writes is ever taken for HTML. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src data:",
  "font-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const headers = {
  "Content-Security-Policy": contentSecurityPolicy,
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  // The browser asks whether its copy is current: the next version of Stellium has the same paths.
  "Cache-Control": "no-cache",
  Vary: "Accept-Encoding",
};

interface LoadedFile {
  readonly plain: Uint8Array<ArrayBuffer>;
  readonly zipped: Uint8Array<ArrayBuffer>;
  readonly tag: string;
}

/**
 * Answers with the dashboard's files, each of which is read when it is first asked for.
 *
 * @param needsKey - whether the page has to ask for a key
 */
export function createDashboard(needsKey: boolean): (c: ApiContext) => Promise<Response> {
  const loaded = new Map<string, Promise<LoadedFile>>();
  return async (c) => {
    const { name, type } = files[c.req.path]!;
    const loading = loaded.get(name) ?? load(name, needsKey);
    loaded.set(name, loading);
    const { plain, zipped, tag } = await loading;
    // Fonts are compressed as they are.
    const zips = !type.startsWith("font/") && /\bgzip\b/.test(c.req.header("accept-encoding") ?? "");
    for (const [header, value] of Object.entries({ ...headers, "Content-Type": type, ETag: tag }))
      c.header(header, value);
    if (c.req.header("if-none-match") === tag) return c.body(null, 304);
    if (zips) c.header("Content-Encoding", "gzip");
    return c.body(zips ? zipped : plain);
  };
}

/** Throws `NOT_FOUND` where the dashboard was not built. */
async function load(name: string, needsKey: boolean): Promise<LoadedFile> {
  const built = await readFile(new URL(`../web/${name}`, import.meta.url)).catch((error: unknown) => {
    throw new StelliumError(
      "NOT_FOUND",
      { what: "dashboard in this build (npm run build makes it)" },
      { cause: error },
    );
  });
  const plain = needsKey && name === "index.html" ? askingForKey(built) : built;
  const zipped = await promisify(gzip)(plain, { level: 9 });
  const tag = `"${createHash("sha256").update(plain).digest("base64url").slice(0, 27)}"`;
  return { plain: new Uint8Array(plain), zipped: new Uint8Array(zipped), tag };
}

/** The page asks before its first request, which would fail. */
function askingForKey(page: Buffer): Buffer {
  return Buffer.from(page.toString("utf8").replace('data-key="none"', 'data-key="needed"'));
}
