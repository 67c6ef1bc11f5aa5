import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { StelliumError } from "../errors.ts";
import { homeDirectory } from "../homeDirectory.ts";
import { checkUrl } from "../weights/modelUrl.ts";

/** Where models come from, and where they are kept. */
export interface Hub {
  /** Its address, without a slash at the end. */
  readonly endpoint: string;
  /** The directory that programs of Hugging Face share. */
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
    directory: hubDirectory(environment),
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
  if (!/^https?:\/\//i.test(given)) throw badEndpoint(`HF_ENDPOINT must be an URL, not ${JSON.stringify(given)}`);
  checkUrl(given);
  return given.replace(/\/+$/, "");
}

/** The directory that programs of Hugging Face keep models in. Throws `HOME_UNKNOWN`. */
export function hubDirectory(environment: Environment): string {
  const own = environment["HF_HUB_CACHE"] || environment["HUGGINGFACE_HUB_CACHE"];
  return own ? expanded(own) : join(homeOf(environment), "hub");
}

function homeOf(environment: Environment): string {
  const { HF_HOME: own, XDG_CACHE_HOME: xdg } = environment;
  if (own) return expanded(own);
  return join(xdg && isAbsolute(xdg) ? xdg : join(homeDirectory(), ".cache"), "huggingface");
}

async function tokenOf(environment: Environment): Promise<string | undefined> {
  const given = environment["HF_TOKEN"] || environment["HUGGING_FACE_HUB_TOKEN"];
  const path = environment["HF_TOKEN_PATH"];
  const kept = path ? expanded(path) : join(homeOf(environment), "token");
  const token = (given || (await readFile(kept, "utf8").catch(() => ""))).replaceAll(/\s+/g, "");
  if (token === "") return undefined;
  if (/^[\x21-\x7e]{1,1000}$/.test(token)) return token;
  throw new StelliumError("BAD_USAGE", {
    detail: `the token in ${given ? "HF_TOKEN" : kept} has characters that none has`,
  });
}

function expanded(path: string): string {
  return path.replace(/^~(?=$|[\\/])/, () => homeDirectory());
}

function isOn(value = ""): boolean {
  return ["1", "true", "yes", "on"].includes(value.toLowerCase());
}

function badEndpoint(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
