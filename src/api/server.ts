import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { reasonOf, StelliumError } from "../errors.ts";
import { createApp } from "./app.ts";
import type { Api } from "./context.ts";
import { errorBody } from "./errorBody.ts";

/**
 * What a plan of memory counts for a server, in bytes, as seen with 200 clients at a time: connections, requests, streams,
 * and what JavaScript has not thrown away yet.
 */
export const serverBytes = 128e6;

/** What keeps clients from holding connections for nothing. Times are in milliseconds. */
const limits = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  /** For the request, not for its answer. */
  requestTimeout: 60_000,
  // Longer than reverse proxies keep theirs: whoever closes first must not be the one who is asked.
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 2_000,
};

const mostConnections = 2048;

/** What a server is started with. */
export interface ServerOptions {
  readonly host: string;
  /** 0 is any free port. */
  readonly port: number;
  /** A client that takes nothing of what is sent to it for so many milliseconds is cut off. */
  readonly stallMs: number;
  readonly api: Omit<Api, "draining" | "stopping">;
}

/** The API on a socket. */
export class ApiServer {
  readonly #server: Server;
  /** Connections, and how many answers each is waiting for. */
  readonly #connections = new Map<Socket, number>();
  readonly #draining: AbortController;
  readonly #stopping: AbortController;
  readonly #host: string;

  /** Starts to listen. Throws `LISTEN_FAILED`. */
  static async start({ host, port, stallMs, api }: ServerOptions): Promise<ApiServer> {
    const [draining, stopping] = [new AbortController(), new AbortController()];
    const app = createApp({ ...api, draining: draining.signal, stopping: stopping.signal });
    const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false, errorHandler: refuse });
    const server = createServer(limits, (request, response) => {
      watch(response, stallMs);
      void listener(request, response);
    });
    server.maxConnections = mostConnections;
    const started = new ApiServer(server, host, draining, stopping);
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

  private constructor(server: Server, host: string, draining: AbortController, stopping: AbortController) {
    this.#server = server;
    server.on("connection", (socket) => this.#connect(socket));
    server.on("request", ({ socket }, response) => this.#occupy(socket, response));
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
    for (const [socket, answers] of this.#connections) if (answers === 0) socket.destroy();
    const late = setTimeout(() => this.#stop(), graceMs);
    try {
      await closed;
    } finally {
      clearTimeout(late);
    }
  }

  #connect(socket: Socket): void {
    this.#connections.set(socket, 0);
    socket.once("close", () => this.#connections.delete(socket));
  }

  /** Keeps a connection for as long as it waits for an answer; when the server drains, no longer. */
  #occupy(socket: Socket, response: ServerResponse): void {
    const count = (change: number) => {
      const answers = this.#connections.get(socket);
      if (answers !== undefined) this.#connections.set(socket, answers + change);
    };
    count(1);
    response.once("close", () => {
      count(-1);
      if (this.#draining.signal.aborted && this.#connections.get(socket) === 0) socket.end();
    });
  }

  /** Errors get a moment to reach their clients. */
  #stop(): void {
    this.#stopping.abort("the server is stopping");
    setTimeout(() => this.#server.closeAllConnections(), 1000).unref();
  }
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
  return Response.json(errorBody(told), { status: known ? 400 : 500 });
}
