import { z } from "zod";
import { StelliumError } from "../errors.ts";
import {
  type AttemptOptions,
  attemptDefaults,
  Misled,
  Passing,
  persist,
  requestOnce,
  type Silence,
} from "../weights/httpAttempts.ts";
import { refusal } from "../weights/httpRange.ts";
import type { Digest } from "./digest.ts";
import { isSafePath } from "./fileNames.ts";
import { authorization, type Hub } from "./hub.ts";
import { type HubName, hubNameText, isRepository } from "./modelName.ts";

/** A GGUF file of a repository. */
export interface HubFile {
  /** In the repository, with slashes. Safe to be joined to a directory. */
  readonly path: string;
  readonly bytes: number;
  readonly digest: Digest;
}

/** What a repository holds at one commit. */
export interface HubListing {
  /** Its name as the hub spells it. */
  readonly repo: string;
  readonly commit: string;
  /** Paths of its GGUF files, in the hub's order. */
  readonly paths: readonly string[];
  /** Length and digest of one of them. Throws `HUB_INVALID`. */
  readonly file: (path: string) => HubFile;
}

const mostFiles = 100_000;
const longestAnswer = 64 * 2 ** 20;
const bytes = z
  .number()
  .int()
  .min(1)
  .max(2 ** 50);
const siblings = z.array(
  z.object({
    rfilename: z.string().max(4096),
    size: bytes.optional().catch(undefined),
    blobId: z
      .string()
      .regex(/^[0-9a-f]{40}$/)
      .optional()
      .catch(undefined),
    lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: bytes }).nullish(),
  }),
);
const repository = z.object({
  id: z.string().max(200),
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  siblings: siblings.max(mostFiles),
});
type Sibling = z.infer<typeof siblings>[number];

/**
 * Asks a hub what a repository holds. Throws `MODEL_NOT_FOUND`, `MODEL_GATED`, `HUB_TOKEN_REJECTED`, `HUB_UNREACHABLE`,
 * `HUB_INVALID` for an answer that is not as it has to be, `ABORTED`.
 */
export async function listRepository(hub: Hub, name: HubName, signal?: AbortSignal): Promise<HubListing> {
  const { repo, revision } = name;
  const url = `${hub.endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const answer = await askHub(url, hub, name, signal);
  const parsed = repository.safeParse(answer);
  if (!parsed.success)
    throw invalid(
      hub,
      parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`),
    );
  const { id, sha, siblings } = parsed.data;
  const files = new Map(
    siblings.filter(({ rfilename }) => /\.gguf$/i.test(rfilename)).map((file) => [file.rfilename, file]),
  );
  const unsafe = [...files.keys()].find((path) => !isSafePath(path));
  if (unsafe !== undefined) throw invalid(hub, [`it names a file ${JSON.stringify(unsafe)}`]);
  const sameRepo = isRepository(id) && id.toLowerCase() === repo.toLowerCase();
  return {
    repo: sameRepo ? id : repo,
    commit: sha,
    paths: [...files.keys()],
    file: (path) => hubFile(hub, files.get(path)!),
  };
}

/** Where a file of a commit is downloaded. */
export function fileUrl({ endpoint }: Hub, repo: string, commit: string, path: string): string {
  return `${endpoint}/${repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** The error for what a hub answers in place of a file or a listing; undefined where it is nothing special. */
export function refusedByHub({ status, headers }: Response, hub: Hub, name: HubName): StelliumError | undefined {
  const model = hubNameText({ ...name, choice: undefined });
  const code = headers.get("x-error-code");
  const page = `${hub.endpoint}/${name.repo}`;
  if (code === "GatedRepo") return new StelliumError("MODEL_GATED", { model, page });
  if (status === 401 && hub.token !== undefined && code !== "RepoNotFound") {
    return new StelliumError("HUB_TOKEN_REJECTED", { endpoint: hub.endpoint });
  }
  if (status === 403) return new StelliumError("MODEL_GATED", { model, page });
  if (status === 401 || status === 404) return new StelliumError("MODEL_NOT_FOUND", { model, endpoint: hub.endpoint });
  return undefined;
}

async function askHub(url: string, hub: Hub, name: HubName, signal: AbortSignal | undefined): Promise<unknown> {
  const headers = (address: string) => authorization(hub, address);
  const options: AttemptOptions = { ...attemptDefaults, attempts: 4, signal, headers };
  try {
    const text = await persist(options, () =>
      requestOnce(url, { headers: { accept: "application/json" } }, options, async (response, _, silence) => {
        if (response.status === 200) return await textOf(response, hub, silence);
        const refused = refusal(response, false);
        if (refused?.passing) throw new Passing(refused.reason, refused.wait);
        throw refusedByHub(response, hub, name) ?? invalid(hub, [`it answers ${response.status}`]);
      }),
    );
    return parsed(text, hub);
  } catch (error) {
    if (!(error instanceof Passing || error instanceof Misled)) throw error;
    const reason = error.message;
    throw new StelliumError("HUB_UNREACHABLE", { endpoint: hub.endpoint, reason }, { cause: error });
  }
}

async function textOf(response: Response, hub: Hub, silence: Silence): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of response.body as AsyncIterable<Uint8Array>) {
    length += piece.length;
    if (length > longestAnswer) throw invalid(hub, [`it sends more than ${longestAnswer} bytes`]);
    pieces.push(piece);
    silence.begin();
  }
  return Buffer.concat(pieces).toString("utf8");
}

function parsed(text: string, hub: Hub): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(hub, ["it sends no JSON"]);
  }
}

function hubFile(hub: Hub, { rfilename: path, size, blobId, lfs }: Sibling): HubFile {
  if (lfs) return { path, bytes: lfs.size, digest: { algorithm: "sha256", hex: lfs.sha256 } };
  if (size === undefined || blobId === undefined) throw invalid(hub, [`it does not tell length and hash of ${path}`]);
  return { path, bytes: size, digest: { algorithm: "git-sha1", hex: blobId } };
}

function invalid({ endpoint }: Hub, reasons: readonly string[]): StelliumError {
  return new StelliumError("HUB_INVALID", { endpoint, reason: reasons.slice(0, 3).join("; ") });
}
