import { readFile } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { StelliumError } from "../errors.ts";
import { type FolderVariable, homeDirectory, unlessHomeless } from "../system/homeDirectory.ts";
import { checkUrl } from "../weights/modelUrl.ts";

/** Where models come from, and where they are kept. */
export interface Hub {
  /** Its address, without a slash at the end. */
  readonly endpoint: string;
  /** The directory that programs of Hugging Face share. To ask for it throws `HOME_UNKNOWN` if it would be in a home. */
  readonly directory: string;
  /** What lets this user read gated and private models. Sent to the endpoint's origin alone. */
  readonly token: string | undefined;
  /** Whether nothing may be fetched. */
  readonly offline: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The hub that the environment names, by the variables that `huggingface_hub` knows: `HF_ENDPOINT`, `HF_HUB_CACHE`,
 * `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`. Throws `BAD_USAGE` for an endpoint that is no URL or not safe.
 */
export async function hubFromEnvironment(environment: Environment = process.env, offline = false): Promise<Hub> {
  return {
    endpoint: endpointOf(environment),
    get directory() {
      return hubDirectory(environment);
    },
    token: await tokenOf(environment),
    offline: offline || isOn(environment["HF_HUB_OFFLINE"]),
  };
}

/** What is sent along to an address: the token, if that is the endpoint's. */
export function authorization({ endpoint, token }: Pick<Hub, "endpoint" | "token">, address: string) {
  const trusted = token !== undefined && new URL(address).origin === new URL(endpoint).origin;
  return trusted ? { authorization: `Bearer ${token}` } : {};
}

/** The hub's address. Throws `BAD_USAGE`. */
export function endpointOf(environment: Environment): string {
  const given = environment["HF_ENDPOINT"]?.trim();
  if (!given) return "https://huggingface.co";
  if (!/^https?:\/\//i.test(given)) throw badEndpoint(`HF_ENDPOINT must be a URL, not ${JSON.stringify(given)}`);
  checkUrl(given);
  return given.replace(/\/+$/, "");
}

/** The directory that programs of Hugging Face keep models in, as an absolute path. Throws `HOME_UNKNOWN`. */
export function hubDirectory(environment: Environment): string {
  const own = environment["HF_HUB_CACHE"] || environment["HUGGINGFACE_HUB_CACHE"];
  return own ? expanded(own, "HF_HUB_CACHE") : join(homeOf(environment), "hub");
}

function homeOf(environment: Environment): string {
  const { HF_HOME: own, XDG_CACHE_HOME: xdg } = environment;
  if (own) return expanded(own, "HF_HOME");
  return join(xdg && isAbsolute(xdg) ? xdg : join(homeDirectory("HF_HOME"), ".cache"), "huggingface");
}

async function tokenOf(environment: Environment): Promise<string | undefined> {
  const given = environment["HF_TOKEN"] || environment["HUGGING_FACE_HUB_TOKEN"];
  const kept = given ? undefined : unlessHomeless(() => tokenPath(environment));
  const token = (given || (await textOf(kept))).replaceAll(/\s+/g, "");
  if (token === "") return undefined;
  if (/^[\x21-\x7e]{1,1000}$/.test(token)) return token;
  throw new StelliumError("BAD_USAGE", {
    detail: `the token in ${kept ?? "HF_TOKEN"} has characters that none has`,
  });
}

function tokenPath(environment: Environment): string {
  const path = environment["HF_TOKEN_PATH"];
  return path ? expanded(path, "HF_TOKEN_PATH") : join(homeOf(environment), "token");
}

/** The text of a file; empty if there is none or it cannot be read. */
async function textOf(path: string | undefined): Promise<string> {
  return path === undefined ? "" : await readFile(path, "utf8").catch(() => "");
}

/** As `huggingface_hub` takes these variables: `~` is the home, and a relative path starts at the working directory. */
function expanded(path: string, variable: FolderVariable): string {
  return resolve(path.replace(/^~(?=$|[\\/])/, () => homeDirectory(variable)));
}

function isOn(value = ""): boolean {
  return ["1", "true", "yes", "on"].includes(value.toLowerCase());
}

function badEndpoint(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
