import { statSync } from "node:fs";
import { StelliumError } from "../errors.ts";
import { fileNameOf, isUrl } from "../weights/modelUrl.ts";
import { isSafePath } from "./fileNames.ts";

/** A model in a repository of a hub. */
export interface HubName {
  /** Such as `user/repo`. */
  readonly repo: string;
  /** A branch, tag or commit. */
  readonly revision: string;
  /** A quantization such as `Q4_K_M`, or a file of the repository; undefined where it is left to the program. */
  readonly choice: string | undefined;
}

/** What a person may call a model by. */
export type ModelName =
  | { readonly kind: "file"; readonly path: string }
  /** With `hub` where the URL is a hub's, of a file in a repository. */
  | { readonly kind: "url"; readonly url: string; readonly hub?: HubName | undefined }
  | { readonly kind: "hub"; readonly hub: HubName };

/** Of repositories and of users, as Hugging Face has them. */
const namePattern = /^(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]{0,95}$/;
const shortPattern = /^(?<path>[^:/\\\s]+\/[^:/\\\s]+)(?::(?<choice>[^:\s]+))?$/;
/** Pages of a hub that are no user's. */
const notUsers = ["api", "blog", "collections", "datasets", "docs", "papers", "spaces"];
const hubHosts = ["huggingface.co", "www.huggingface.co", "hf.co"];

/**
 * What a name stands for: a path, an `http(s)://` URL, or a model of a hub, as `hf.co/user/repo[:QUANT]`,
 * `user/repo[:QUANT]` or the address of its page. What is on the disk as `isThere` says is a path, and so is whatever
 * looks like nothing else. Throws `BAD_USAGE` for the name of a hub's model that cannot be one.
 */
export function parseModelName(name: string, endpoint: string, isThere: (path: string) => boolean = isFile): ModelName {
  if (isUrl(name)) return parseUrl(name, endpoint);
  const [, rest] = /^(?:hf:(?:\/\/)?|(?:www\.)?(?:hf\.co|huggingface\.co)\/)(.+)$/i.exec(name) ?? [];
  if (rest !== undefined) return { kind: "hub", hub: parseHubPath(rest, name) };
  const short = looksLikePath(name) || isThere(name) ? undefined : shortPattern.exec(name)?.groups;
  if (short === undefined) return { kind: "file", path: name };
  return { kind: "hub", hub: parseHubPath(name, name) };
}

/** How a model of a hub is written: what `parseModelName` takes. */
export function hubNameText({ repo, revision, choice }: HubName): string {
  const at = revision === "main" ? "" : `@${revision}`;
  return `${repo}${at}${choice === undefined ? "" : `:${choice}`}`;
}

/** The name that clients call a model by: its file's name without `.gguf`, or its whole name at a hub. */
export function modelId(name: string): string {
  const file = fileNameOf(name);
  if (/\.gguf$/i.test(file)) return file.slice(0, -".gguf".length);
  return looksLikePath(name) ? file : name;
}

/** Whether a revision can be asked for, and be the name of a file below a directory. */
export function isRevision(text: string): boolean {
  return /^[\w.-]+(?:\/[\w.-]+){0,3}$/.test(text) && text.length <= 200 && isSafePath(text);
}

/** Whether a text can be a repository's name, as in `user/repo`. */
export function isRepository(text: string): boolean {
  const parts = text.split("/");
  return parts.length === 2 && parts.every((part) => namePattern.test(part) && !/\.(git|ipynb)$/i.test(part));
}

function looksLikePath(name: string): boolean {
  return /^[./~\\]|^[a-z]:[\\/]|\\|\.gguf$/i.test(name) && !/^[^:]+\/[^:]+:/.test(name);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** An URL of a hub's web page is the model that the page is about; any other one is the file behind it. */
function parseUrl(text: string, endpoint: string): ModelName {
  const inside = URL.canParse(text) ? pathInHub(new URL(text), new URL(endpoint)) : undefined;
  const [user, repo, kind, ...rest] = inside ?? [];
  const isModel = !notUsers.includes(user!) && isRepository(`${user}/${repo}`);
  if (repo === undefined || !isModel) return { kind: "url", url: text };
  if (kind === undefined) return { kind: "hub", hub: { repo: `${user}/${repo}`, revision: "main", choice: undefined } };
  if (kind === "tree") return { kind: "hub", hub: checked({ repo: `${user}/${repo}`, ...inTree(rest) }, text) };
  if ((kind !== "blob" && kind !== "resolve") || rest.length < 2) return { kind: "url", url: text };
  const hub = checked({ repo: `${user}/${repo}`, ...inTree(rest) }, text);
  return { kind: "url", url: text.replace(/\/blob\//, "/resolve/"), hub };
}

function inTree([revision = "main", ...path]: readonly string[]): Pick<HubName, "revision" | "choice"> {
  return { revision, choice: path.length === 0 ? undefined : path.join("/") };
}

function pathInHub(url: URL, endpoint: URL): string[] | undefined {
  const base = endpoint.pathname.replace(/\/$/, "");
  const own = url.host === endpoint.host && url.pathname.startsWith(`${base}/`);
  if (!own && !hubHosts.includes(url.hostname)) return undefined;
  const path = own ? url.pathname.slice(base.length) : url.pathname;
  return path
    .split("/")
    .filter((part) => part !== "")
    .map(decoded);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** `user/repo`, `user/repo:CHOICE`, `user/repo@REVISION:CHOICE`, `user/repo/path/to/file.gguf`. */
function parseHubPath(text: string, name: string): HubName {
  const colon = text.indexOf(":");
  const [place, chosen] = colon < 0 ? [text, undefined] : [text.slice(0, colon), text.slice(colon + 1)];
  const [user = "", last = "", ...file] = place.replace(/\/$/, "").split("/");
  const [repo = "", revision = "main"] = last.split("@");
  const [kind] = file;
  if (file.length > 2 && (kind === "blob" || kind === "resolve" || kind === "tree")) {
    return checked({ repo: `${user}/${repo}`, ...inTree(file.slice(1)) }, name);
  }
  const path = file.length > 0 ? file.join("/") : undefined;
  // Ollama's word for what is not named.
  const choice = chosen === "latest" ? undefined : (chosen ?? path);
  return checked({ repo: `${user}/${repo}`, revision, choice }, name);
}

function checked(hub: HubName, name: string): HubName {
  const { repo, revision, choice } = hub;
  const fine = isRepository(repo) && isRevision(revision) && choice !== "" && (choice?.length ?? 0) <= 1000;
  if (fine) return hub;
  const detail = `${JSON.stringify(name)} is no name of a model; write hf.co/user/repo:QUANT, a path or an URL`;
  throw new StelliumError("BAD_USAGE", { detail });
}
