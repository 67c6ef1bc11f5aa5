import { Worker } from "node:worker_threads";
import type { LinkStatistics } from "../../collective/group.ts";
import { type ErrorFacts, StelliumError } from "../../errors.ts";
import { type Socket, shutdownSocket } from "../../native/sockets.ts";
import { threadScript } from "../../system/threadScript.ts";
import type { TraceMemory } from "../../trace/recorder.ts";
import type { PartialSums } from "../reducer.ts";
import { readJson, writeJson } from "../sharedJson.ts";
import {
  type CommunicationStart,
  communicationMemory,
  linkFigures,
  type OpenOrder,
  order,
  orderCell,
  outcome,
  slotOf,
} from "./communicationProtocol.ts";
import { sumDeadline } from "./linkSets.ts";
import type { ReductionChoice } from "./reduction.ts";

/** Of threads that make few objects: V8 keeps this much, in MB, for those that die young. */
export const fewObjects = { maxYoungGenerationSizeMb: 2 };
/** How much longer than the communication thread's own deadlines this thread waits for it: it may have to start. */
const patienceMs = 8_000;

/**
 * The engine thread's end of its communication thread, which adds up over a second set of links. They share memory: on
 * the way of a sum no messages pass between them.
 */
export class Communication implements Disposable {
  readonly #memory = communicationMemory();
  /** The order that each lane's sum is under way by. */
  readonly #sums = new Map<number, number>();
  #sockets: readonly Socket[] = [];
  #given = 0;

  /** Starts the thread, and does not wait for it. */
  constructor(trace: TraceMemory | undefined) {
    const workerData: CommunicationStart = { memory: this.#memory, trace };
    const options = { workerData, resourceLimits: fewObjects };
    const worker = new Worker(threadScript("communication"), options);
    // What it fails by it says in shared memory: this thread has no time for events.
    worker.on("error", () => {});
  }

  /** Opens its links. Blocks; throws `LINK_LOST`. */
  open(opening: OpenOrder): void {
    this.#memory.statistics.fill(0);
    this.#put(opening);
    this.#wait(this.#give(order.open), opening.deadlineMs);
    this.#sockets = this.#take<Socket[]>();
  }

  /** Says how to add up. */
  choose(choice: ReductionChoice): void {
    this.#put(choice);
    this.#wait(this.#give(order.choose));
  }

  /** Descriptors of its connections. */
  get sockets(): readonly Socket[] {
    return this.#sockets;
  }

  /** What it has counted since it was said how to add up. */
  get statistics(): LinkStatistics {
    const entries = linkFigures.map((name, index) => [name, this.#memory.statistics[index]]);
    return Object.fromEntries(entries) as LinkStatistics;
  }

  /** Starts adding up values in place, which must not be touched before `wait`. */
  start(lane: number, { values, address, exact }: PartialSums, subject: number): void {
    const { cells, addresses } = this.#memory;
    const slot = slotOf(this.#given);
    addresses[slot] = address;
    cells[orderCell.elements + slot] = values.length;
    cells[orderCell.subjects + slot] = subject;
    this.#sums.set(lane, this.#give(exact ? order.exactSum : order.sum));
  }

  /** Waits for the sum that was started last in a lane, if any. Throws `LINK_LOST`. */
  wait(lane: number): void {
    const number = this.#sums.get(lane);
    if (number === undefined) return;
    this.#sums.delete(lane);
    this.#wait(number);
  }

  /** Closes its links, whatever it does with them. */
  close(): void {
    for (const socket of this.#sockets) shutdownSocket(socket);
    this.#sockets = [];
    this.#sums.clear();
    this.#wait(this.#give(order.close));
  }

  /** Ends the thread. */
  [Symbol.dispose](): void {
    if (!this.#ended) this.close();
    this.#give(order.end);
  }

  get #ended(): boolean {
    return Atomics.load(this.#memory.cells, orderCell.ended) !== 0;
  }

  #give(what: number): number {
    const { cells } = this.#memory;
    const number = this.#given;
    cells[orderCell.orders + slotOf(number)] = what;
    this.#given = (number + 1) | 0;
    Atomics.store(cells, orderCell.given, this.#given);
    Atomics.notify(cells, orderCell.given);
    return number;
  }

  /** Waits until an order has been done, which takes up to `mostMs` by itself. */
  #wait(number: number, mostMs = sumDeadline): void {
    const { cells } = this.#memory;
    const deadline = performance.now() + mostMs + patienceMs;
    for (
      let done = Atomics.load(cells, orderCell.done);
      ((done - number) | 0) <= 0;
      done = Atomics.load(cells, orderCell.done)
    ) {
      const left = deadline - performance.now();
      if (left <= 0 || Atomics.wait(cells, orderCell.done, done, left) === "timed-out") throw gone();
    }
    if (this.#ended) throw gone();
    if (cells[orderCell.statuses + slotOf(number)] === outcome.failed) throw failure(this.#take());
  }

  #put(value: unknown): void {
    this.#memory.cells[orderCell.messageBytes] = writeJson(this.#memory.message, value);
  }

  #take<T>(): T {
    return readJson<T>(this.#memory.message, this.#memory.cells[orderCell.messageBytes]!);
  }
}

function failure({ code, values }: ErrorFacts): StelliumError {
  return new StelliumError(code, values);
}

function gone(): StelliumError {
  return new StelliumError("ENGINE_FAILED", { reason: "its communication thread is gone" });
}
