import type { Socket } from "node:net";
import { log } from "../../log.ts";

/** What strangers may take of us. */
export interface AdmissionLimits {
  /** From the connection to the end of the introduction, in milliseconds; 5,000 by default. */
  readonly deadlineMs: number;
  /** Connections that have not introduced themselves; 32 by default. */
  readonly mostPending: number;
}

export const defaultLimits: AdmissionLimits = { deadlineMs: 5000, mostPending: 32 };

const logEveryMs = 10_000;

/** The connections that have not proved who they are: few, for a short time, and logged in few lines. */
export class Admission {
  readonly #limits: AdmissionLimits;
  /** Oldest first. */
  readonly #pending = new Map<Socket, NodeJS.Timeout>();
  #dropped = 0;
  #lastLog = Number.NEGATIVE_INFINITY;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Lets a connection try. Where there are too many, the oldest has to go: a device on the same network needs a few
   * milliseconds, so that someone who only holds connections open does not keep it out.
   */
  enter(socket: Socket): void {
    const [oldest] = this.#pending.size >= this.#limits.mostPending ? this.#pending.keys() : [];
    if (oldest) this.#expel(oldest);
    const deadline = setTimeout(() => this.#expel(socket), this.#limits.deadlineMs);
    this.#pending.set(socket, deadline);
    socket.once("close", () => this.leave(socket));
  }

  /** The connection has introduced itself, or is gone. */
  leave(socket: Socket): void {
    clearTimeout(this.#pending.get(socket));
    this.#pending.delete(socket);
  }

  /** Counts a connection that was dropped, and says so from time to time. */
  dropped(from: string, reason: string): void {
    this.#dropped++;
    if (performance.now() - this.#lastLog < logEveryMs) return;
    const count = this.#dropped === 1 ? "a connection" : `${this.#dropped} connections`;
    log("warn", `dropped ${count} that did not join, the last from ${from}: ${reason}`);
    this.#lastLog = performance.now();
    this.#dropped = 0;
  }

  /** Drops all that are pending. */
  close(): void {
    for (const socket of [...this.#pending.keys()]) this.#expel(socket);
  }

  #expel(socket: Socket): void {
    this.leave(socket);
    socket.destroy();
  }
}
