import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { reasonOf, StelliumError } from "../errors.ts";
import { createApp } from "./app.ts";
import { tooSlow } from "./bodyText.ts";
import { type ConnectionLimits, Connections, usualLimits } from "./connections.ts";
import type { Api } from "./context.ts";
import { errorBody } from "./errorBody.ts";
import { FollowerPlaces } from "./followers.ts";
import { type AccessRules, apiHeaders, isKey, keyOf } from "./security.ts";

/**
 * What a plan of memory counts for a server, in bytes, as seen with 200 clients at a time: connections, requests, streams,
 * and what JavaScript has not thrown away yet.
 */
export const serverBytes = 128e6;

/** How long a client may take, in milliseconds, and how much it may send. */
const httpLimits = {
  maxHeaderSize: 16 * 1024,
  // A request without a host is refused in words; see `refuse`.
  requireHostHeader: false,
  /** For a request whose body nobody reads. One that is read has less; see `bodyText`. */
  requestTimeout: 70_000,
  // Longer than reverse proxies keep theirs: whoever closes first must not be the one who is asked.
  keepAliveTimeout: 75_000,
};

const usualHeadMs = 10_000;

/** What a server is started with. */
export interface ServerOptions {
  readonly host: string;
  /** 0 is any free port. */
  readonly port: number;
  /** A client that takes nothing of what is sent to it for so many milliseconds is cut off. */
  readonly stallMs: number;
  /** How long the head of a request may take; 10 s if absent. */
  readonly headMs?: number | undefined;
  /** What the process has room for if absent. */
  readonly connections?: ConnectionLimits | undefined;
  readonly api: Omit<Api, "draining" | "stopping" | "followers">;
}

interface ServerParts {
  readonly server: Server;
  readonly host: string;
  readonly headMs: number;
  readonly connections: Connections;
  readonly draining: AbortController;
  readonly stopping: AbortController;
}

/** The API on a socket. */
export class ApiServer {
  readonly #server: Server;
  readonly #connections: Connections;
  readonly #draining: AbortController;
  readonly #stopping: AbortController;
  readonly #host: string;

  /** Starts to listen. Throws `LISTEN_FAILED`. */
  static async start(options: ServerOptions): Promise<ApiServer> {
    const { host, port, stallMs, headMs = usualHeadMs, connections = usualLimits(), api } = options;
    const [draining, stopping] = [new AbortController(), new AbortController()];
    const signals = { draining: draining.signal, stopping: stopping.signal };
    const app = createApp({ ...api, ...signals, followers: new FollowerPlaces() });
    const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false, errorHandler: refuse });
    const times = { headersTimeout: headMs, connectionsCheckingInterval: Math.min(headMs / 2, 2000) };
    const server = createServer({ ...httpLimits, ...times });
    const held = new Connections(connections);
    const started = new ApiServer({ server, host, headMs, connections: held, draining, stopping });
    server.on("request", (request, response) => {
      if (!started.#begin(request, response, api.access)) return;
      watch(response, stallMs);
      void listener(request, response);
    });
    try {
      server.listen(port, plain(host));
      await once(server, "listening");
    } catch (error) {
      throw new StelliumError(
        "LISTEN_FAILED",
        { address: `${host}:${port}`, reason: reasonOf(error) },
        { cause: error },
      );
    }
    return started;
  }

  private constructor({ server, host, headMs, connections, draining, stopping }: ServerParts) {
    this.#server = server;
    this.#connections = connections;
    server.on("connection", (socket) => this.#connect(socket));
    server.on("clientError", (error, socket) => this.#refuse(error, socket as Socket, headMs));
    this.#host = host;
    this.#draining = draining;
    this.#stopping = stopping;
  }

  /** Where clients reach it, such as `http://127.0.0.1:7710`. */
  get url(): string {
    const host = plain(this.#host);
    return `http://${host.includes(":") ? `[${host}]` : host}:${(this.#server.address() as AddressInfo).port}`;
  }

  /**
   * Takes no more requests, waits until those that run have ended, and after `graceMs` ends them by an error. Returns
   * when all connections are closed.
   */
  async close(graceMs: number): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#draining.abort("the server is stopping");
    this.#server.close();
    this.#connections.closeIdle();
    const late = setTimeout(() => this.#stop(), graceMs);
    try {
      await closed;
    } finally {
      clearTimeout(late);
    }
  }

  #connect(socket: Socket): void {
    if (this.#connections.enter(socket)) return;
    turnAway(socket, new StelliumError("CONNECTIONS_FULL", { most: this.#connections.limits.most }));
  }

  /** Keeps the connection until its answer has ended. When the server drains, it ends with it. */
  #begin(request: IncomingMessage, response: ServerResponse, { apiKey }: AccessRules): boolean {
    const key = keyOf({ get: (name) => request.headers[name]?.toString() ?? null });
    return this.#connections.begin({ request, response }, apiKey !== undefined && isKey(key, apiKey), (socket) => {
      if (this.#draining.signal.aborted) socket.end();
    });
  }

  /** What Node's parser refuses, and what does not come in time, never reaches the app. */
  #refuse(error: NodeJS.ErrnoException, socket: Socket, headMs: number): void {
    const use = this.#connections.useOf(socket);
    if (use === "answer" || !socket.writable || error.code === "ECONNRESET") return void socket.destroy();
    turnAway(socket, parserError(error, use, headMs));
  }

  /** Errors get a moment to reach their clients. */
  #stop(): void {
    this.#stopping.abort("the server is stopping");
    setTimeout(() => this.#server.closeAllConnections(), 1000).unref();
  }
}

/** Answers a connection by an error, and closes it. */
function turnAway(socket: Socket, error: StelliumError): void {
  const body = JSON.stringify(errorBody(error));
  const length = Buffer.byteLength(body);
  const headers = { ...apiHeaders, "Content-Type": "application/json", "Content-Length": length, Connection: "close" };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on("error", () => {});
  socket.write(`HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}\r\n${lines.join("")}\r\n${body}`);
  socket.destroySoon();
}

function parserError({ code }: NodeJS.ErrnoException, use: "none" | "request", headMs: number): StelliumError {
  const { requestTimeout, maxHeaderSize } = httpLimits;
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return use === "request" ? tooSlow("the body", requestTimeout) : tooSlow("the head", headMs);
  if (code === "HPE_HEADER_OVERFLOW") return new StelliumError("HEAD_TOO_LARGE", { most: maxHeaderSize });
  return new StelliumError("REQUEST_INVALID", { reason: "the request is not HTTP/1.1" });
}

function plain(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}

/**
 * Has the socket's own timeout, which knows progress from none, end a client that does not take what is sent to it. The
 * timeout is on only while something is: a client that waits for a prompt to be computed is not stalled.
 */
function watch(response: ServerResponse, stallMs: number): void {
  const { socket } = response;
  let sending = false;
  const look = () => {
    const now = socket !== null && socket.writableLength > 0;
    if (now !== sending) socket?.setTimeout(now ? stallMs : 0);
    sending = now;
  };
  const timer = setInterval(look, Math.min(stallMs / 4, 1000)).unref();
  response.once("close", () => clearInterval(timer));
}

/** Requests that are no requests never reach the app. */
function refuse(error: unknown): Response {
  const known = error instanceof Error && error.name === "RequestError";
  const told = known ? new StelliumError("REQUEST_INVALID", { reason: "the request has no valid address" }) : error;
  return Response.json(errorBody(told), { status: known ? 400 : 500, headers: apiHeaders });
}
