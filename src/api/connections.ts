import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { openFileLimit } from "../system/openFiles.ts";
import { clientGroup, firstOfLargestGroup, type Holder } from "./fairShare.ts";

/** How many connections a server holds. */
export interface ConnectionLimits {
  /** In all. */
  readonly most: number;
  /** On which no answer is being made: of all addresses, and of one. */
  readonly mostWaiting: number;
  readonly mostWaitingOfOne: number;
}

/** A request that has begun, and its answer. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

interface Connection extends Holder {
  readonly socket: Socket;
  readonly exchanges: Set<Exchange>;
  /** Whether the last request came with the API key. */
  hasKey: boolean;
}

/** Leaves half of the files that the process may open to the model, its links, and connections that are being closed. */
export function usualLimits(openFiles = openFileLimit() ?? 4096): ConnectionLimits {
  const most = Math.max(16, Math.min(2048, Math.floor(openFiles / 2)));
  return { most, mostWaiting: Math.floor(most / 4), mostWaitingOfOne: Math.floor(most / 8) };
}

/**
 * The connections of a server. A client needs a moment to send a request, and then gets its answer, however long that
 * takes. Other connections (half requests, idle ones, answers that are not read) are few, and the oldest gives way to a
 * new one, so that nobody is kept out by a client that only holds connections. Those with the API key are counted for
 * themselves, and do not give way to those without.
 */
export class Connections {
  readonly limits: ConnectionLimits;
  /** The one that has waited for longest comes first. */
  readonly #all = new Map<Socket, Connection>();

  constructor(limits: ConnectionLimits) {
    this.limits = limits;
  }

  /** Takes a connection, for which another one may be closed. Returns false if there is no room for it. */
  enter(socket: Socket): boolean {
    const newest = { socket, group: clientGroup(socket.remoteAddress), exchanges: new Set<Exchange>(), hasKey: false };
    if (!this.#makeRoom(newest)) return false;
    this.#all.set(socket, newest);
    socket.once("close", () => this.#all.delete(socket));
    return true;
  }

  /**
   * Keeps a connection for as long as a request is answered on it. Returns false if it is one that gave way.
   *
   * @param hasKey - whether the request came with the API key
   * @param onIdle - told when no more answers are due on the connection
   */
  begin(exchange: Exchange, hasKey: boolean, onIdle: (socket: Socket) => void): boolean {
    const { socket } = exchange.request;
    const connection = this.#all.get(socket);
    if (connection === undefined) return false;
    connection.exchanges.add(exchange);
    connection.hasKey = hasKey;
    exchange.response.once("close", () => {
      connection.exchanges.delete(exchange);
      if (!this.#all.delete(socket)) return;
      if (hasKey) this.#close(this.#excess(this.#waiting(true), connection));
      this.#all.set(socket, connection);
      if (connection.exchanges.size === 0) onIdle(socket);
    });
    return true;
  }

  /** What a connection is used for: nothing, a request, or an answer that has begun. */
  useOf(socket: Socket): "none" | "request" | "answer" {
    const exchanges = [...(this.#all.get(socket)?.exchanges ?? [])];
    if (exchanges.some(({ response }) => response.headersSent)) return "answer";
    return exchanges.length > 0 ? "request" : "none";
  }

  /** Closes those on which no answer is due. */
  closeIdle(): void {
    for (const { socket, exchanges } of this.#all.values()) if (exchanges.size === 0) socket.destroy();
  }

  #makeRoom(newest: Holder): boolean {
    const { size } = this.#all;
    if (size < this.limits.mostWaitingOfOne) return true;
    const waiting = this.#waiting(false);
    const excess = this.#excess(waiting, newest);
    if (excess === undefined && size < this.limits.most) return true;
    const last = excess ?? firstOfLargestGroup(waiting) ?? firstOfLargestGroup(this.#waiting(true));
    this.#close(last);
    return last !== undefined;
  }

  /** The connection that gives way to one more that waits. */
  #excess(waiting: readonly Connection[], { group }: Holder): Connection | undefined {
    const ofOne = waiting.filter((each) => each.group === group);
    if (ofOne.length >= this.limits.mostWaitingOfOne) return ofOne[0];
    return waiting.length >= this.limits.mostWaiting ? firstOfLargestGroup(waiting) : undefined;
  }

  #waiting(hasKey: boolean): Connection[] {
    return [...this.#all.values()].filter((each) => each.hasKey === hasKey && !isServed(each));
  }

  #close(connection: Connection | undefined): void {
    if (connection === undefined) return;
    this.#all.delete(connection.socket);
    connection.socket.destroy();
  }
}

/** Whether an answer is being made, to a request that is there, or of which the key is. */
function isServed({ exchanges, hasKey }: Connection): boolean {
  return [...exchanges].some(({ request, response }) => (request.complete || hasKey) && !response.writableEnded);
}
