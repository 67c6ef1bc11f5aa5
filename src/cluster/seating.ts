import { StelliumError } from "../errors.ts";
import type { WorkerConnection } from "./control/server.ts";

/** A rank, and who gets it. */
export type Seat = readonly [rank: number, connection: WorkerConnection];

/** Gives free ranks to workers as they arrive. */
export class Seating {
  readonly #arrivals: AsyncIterator<WorkerConnection, void>;
  readonly #failed: Promise<never> | undefined;
  /** Workers that have no slice of a free rank, in the order they came. */
  #waiting: WorkerConnection[] = [];
  /** The rank that each device had last, by its id. */
  readonly #lastRanks = new Map<string, number>();

  /** @param failed - rejects where workers will not come */
  constructor(arrivals: AsyncIterable<WorkerConnection, void>, failed: Promise<never> | undefined) {
    this.#arrivals = arrivals[Symbol.asyncIterator]();
    this.#failed = failed;
  }

  /** Workers that have arrived and have no rank yet. */
  get waiting(): readonly WorkerConnection[] {
    return this.#waiting;
  }

  /**
   * Gives all free ranks to workers. A worker gets a rank whose slice it has, at once, its former one if possible; one that
   * has none of them waits until all are there, and gets what is left.
   *
   * @param free - ranks that are free at that time, and the names of their slices
   * @param onWait - told each time before another worker is waited for
   */
  async *fill(free: () => ReadonlyMap<number, string>, onWait: () => void): AsyncGenerator<Seat, void> {
    let ranks = free();
    for (; ranks.size > this.#stillWaiting(); ranks = free()) {
      onWait();
      const connection = await this.#next();
      const kept = rankKept(connection.hello.cache, ranks, this.#lastRanks.get(connection.device ?? ""));
      if (kept !== undefined) yield this.#seat(kept, connection);
      else this.#waiting.push(connection);
    }
    for (const rank of ranks.keys()) yield this.#seat(rank, this.#waiting.shift()!);
  }

  /** Drops waiting devices that have disconnected, and counts the others. */
  #stillWaiting(): number {
    this.#waiting = this.#waiting.filter(({ channel }) => channel.isOpen);
    return this.#waiting.length;
  }

  #seat(rank: number, connection: WorkerConnection): Seat {
    if (connection.device !== undefined) this.#lastRanks.set(connection.device, rank);
    return [rank, connection];
  }

  async #next(): Promise<WorkerConnection> {
    const next = this.#arrivals.next();
    const { value } = await (this.#failed === undefined ? next : Promise.race([next, this.#failed]));
    if (value) return value;
    throw new StelliumError("ABORTED", { reason: "no longer listening for workers" });
  }
}

/**
 * The rank that a device is to have, so that it need not be sent anything: of the free ones whose slice it has, its former
 * one, else the first. Several devices that rejoin then do not take each other's ranks.
 *
 * @param free - names of the slices of free ranks
 * @param former - the rank that the device had last
 */
export function rankKept(
  cache: readonly string[],
  free: ReadonlyMap<number, string>,
  former?: number,
): number | undefined {
  const ranks = [...free].filter(([, name]) => cache.includes(name)).map(([rank]) => rank);
  return ranks.find((rank) => rank === former) ?? ranks[0];
}
