import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gitHash, sha256 } from "./hubFiles.ts";

/** A repository of the mock hub. */
export interface Repository {
  readonly commit: string;
  readonly files: Record<string, Buffer>;
  /** Whether files are shown only to who sends this token. */
  readonly gated?: string;
  /** Whether the hub denies that it exists to who does not send this token. */
  readonly private?: string;
  /** Files that are not in LFS. */
  readonly small?: readonly string[];
  /** Changes what the hub's listing says. */
  readonly lie?: (listing: Listing) => unknown;
}

export interface Listing {
  id: string;
  sha: string;
  siblings: { rfilename: string; size: number; blobId: string; lfs?: { sha256: string; size: number } }[];
}

/** A request that came to either server. */
export interface Asked {
  readonly where: "hub" | "store";
  readonly path: string;
  /** First byte that was asked for; 0 without a Range. */
  readonly first: number;
  readonly authorization: string | undefined;
}

/** Serves bytes of a file in its own way. */
export type Serve = (response: ServerResponse, bytes: Buffer, asked: Asked, request: IncomingMessage) => void;

/**
 * A hub in this process, and the store that it redirects downloads to, which is another origin. What they are asked is
 * kept in `asked`; `store` can be given other manners.
 */
export class MockHub implements AsyncDisposable {
  readonly repositories: Record<string, Repository> = {};
  readonly asked: Asked[] = [];
  /** How the store sends files. */
  store: Serve = honest;
  /** Answers in place of the hub's listing, for the first requests. */
  readonly listingFailures: ((response: ServerResponse) => void)[] = [];
  readonly #hub: Server;
  readonly #store: Server;

  static async start(): Promise<MockHub> {
    const hub = new MockHub();
    for (const server of [hub.#hub, hub.#store]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
    return hub;
  }

  private constructor() {
    this.#hub = createServer((request, response) => this.#onHub(request, response));
    this.#store = createServer((request, response) => this.#onStore(request, response));
  }

  get url(): string {
    return addressOf(this.#hub);
  }

  get storeUrl(): string {
    return addressOf(this.#store);
  }

  /** Requests for files, at the store. */
  get fetched(): Asked[] {
    return this.asked.filter(({ where }) => where === "store");
  }

  /** What a process has to be told to use this hub, and directories of its own. */
  environment(directory: string): Record<string, string> {
    return { HF_ENDPOINT: this.url, HF_HOME: directory, HF_TOKEN: "", STELLIUM_CACHE_DIR: `${directory}/stellium` };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #onHub(request: IncomingMessage, response: ServerResponse): void {
    this.#note("hub", request);
    const { pathname } = new URL(request.url!, this.url);
    const [, listed] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/[^/]+$/.exec(pathname) ?? [];
    const [, name = listed ?? "", path = ""] = /^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/.exec(pathname) ?? [];
    const repository = this.repositories[name];
    const authorized = (secret?: string) =>
      secret === undefined || request.headers.authorization === `Bearer ${secret}`;
    const failure = listed === undefined ? undefined : this.listingFailures.shift();
    if (failure !== undefined) failure(response);
    else if (repository === undefined || !authorized(repository.private)) refuse(response, 401, "RepoNotFound");
    else if (listed !== undefined) this.#list(response, name, repository);
    else if (!authorized(repository.gated)) refuse(response, 403, "GatedRepo");
    else this.#redirect(response, `${name}/${path}`, repository.files[decodeURIComponent(path)]);
  }

  #redirect(response: ServerResponse, path: string, bytes: Buffer | undefined): void {
    if (bytes === undefined) refuse(response, 404, "EntryNotFound");
    else response.writeHead(302, { location: `${this.storeUrl}/${path}`, "x-linked-size": bytes.length }).end();
  }

  #list(response: ServerResponse, name: string, { commit, files, small = [], lie = (same) => same }: Repository): void {
    const siblings = Object.entries(files).map(([rfilename, bytes]) => ({
      rfilename,
      size: bytes.length,
      blobId: gitHash(bytes),
      ...(small.includes(rfilename) ? {} : { lfs: { sha256: sha256(bytes), size: bytes.length } }),
    }));
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(lie({ id: name, sha: commit, siblings })));
  }

  #onStore(request: IncomingMessage, response: ServerResponse): void {
    const asked = this.#note("store", request);
    const [, user, repo, ...path] = decodeURIComponent(asked.path).split("/");
    const bytes = this.repositories[`${user}/${repo}`]?.files[path.join("/")];
    if (bytes === undefined) response.writeHead(404).end();
    else this.store(response, bytes, asked, request);
  }

  #note(where: Asked["where"], request: IncomingMessage): Asked {
    const [, first = "0"] = /^bytes=(\d+)-/.exec(request.headers.range ?? "") ?? [];
    const { authorization } = request.headers;
    const asked = { where, path: request.url!, first: Number(first), authorization };
    this.asked.push(asked);
    return asked;
  }
}

/** Sends the range that was asked for. */
export const honest: Serve = (response, bytes, _, request) => {
  const piece = begin(response, bytes, request);
  response.end(piece);
};

/** Sends some bytes of what was asked for, as `cut` says for what is left, and hangs up. */
export function cutting(cut: (left: number) => number): Serve {
  return (response, bytes, _, request) => {
    const piece = begin(response, bytes, request);
    const some = piece.subarray(0, piece.length <= 1 ? 1 : cut(piece.length));
    if (some.length === piece.length) response.end(some);
    else response.write(some, () => response.destroy());
  };
}

/** Writes the head of an answer, and returns the bytes that belong behind it. */
export function begin(response: ServerResponse, bytes: Buffer, request: IncomingMessage): Buffer {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
  if (last === undefined) {
    response.writeHead(200, { "content-length": bytes.length });
    return bytes;
  }
  const end = Math.min(Number(last), bytes.length - 1);
  const range = `bytes ${first}-${end}/${bytes.length}`;
  response.writeHead(206, { "content-range": range, "content-length": end + 1 - Number(first), etag: '"one"' });
  return bytes.subarray(Number(first), end + 1);
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "x-error-code": code }).end();
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
