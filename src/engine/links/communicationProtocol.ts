import type { TraceMemory } from "../../trace/recorder.ts";
import type { LinkSetup } from "./rankLinks.ts";
import type { SumSizes } from "./reduction.ts";

/** Orders that may be under way at once: one sum for each lane, and closing the links. A power of two. */
export const orderSlots = 4;

/** Memory that the engine thread and its communication thread share. */
export interface CommunicationMemory {
  /** See `cell`. */
  readonly cells: Int32Array;
  /** Where the values of a sum are, by slot. */
  readonly addresses: BigInt64Array;
  /** See `linkFigures`. */
  readonly statistics: Float64Array;
  /** What goes with an order, and what comes of it, as UTF-8 JSON. The failure of a sum stays until links are opened. */
  readonly message: Uint8Array;
}

/**
 * Indices into `CommunicationMemory.cells`. Order number n, counted from 0, is in slot n modulo `orderSlots`: the engine
 * thread fills it in and raises `given`; the communication thread does what it says, in order, and raises `done`.
 */
export const orderCell = {
  given: 0,
  done: 1,
  /** Not 0: the thread has ended. */
  ended: 2,
  messageBytes: 3,
  /** The first of `orderSlots` each. */
  orders: 4,
  elements: 4 + orderSlots,
  subjects: 4 + 2 * orderSlots,
  statuses: 4 + 3 * orderSlots,
  length: 4 + 4 * orderSlots,
} as const;

/**
 * What may be ordered: to open links (`OpenOrder`), to take a collective (`ReductionChoice`), a sum by the links' wire
 * type or in f32, to close the links, to end.
 */
export const order = { open: 1, choose: 2, sum: 3, exactSum: 4, close: 5, end: 6 } as const;

/** How it went. */
export const outcome = { done: 0, failed: 1 } as const;

/** The figures of `LinkStatistics`, in the order in which they are shared. */
export const linkFigures = ["count", "wireMs", "waitMs", "cipherMs", "bytesSent", "bytesReceived"] as const;

/** Opening the second set of links: over the listener of the first, when that one is open. */
export interface OpenOrder {
  readonly listener: number;
  readonly setup: LinkSetup;
  readonly largest: SumSizes;
  /** Milliseconds to open them in. */
  readonly deadlineMs: number;
}

/** What the communication thread is started with. */
export interface CommunicationStart {
  readonly memory: CommunicationMemory;
  readonly trace: TraceMemory | undefined;
}

/** Measurements between 64 ranks fit. Pages that are not written to are never backed by the system. */
const messageBytes = 512 * 1024;

export function communicationMemory(): CommunicationMemory {
  return {
    cells: new Int32Array(new SharedArrayBuffer(4 * orderCell.length)),
    addresses: new BigInt64Array(new SharedArrayBuffer(8 * orderSlots)),
    statistics: new Float64Array(new SharedArrayBuffer(8 * linkFigures.length)),
    message: new Uint8Array(new SharedArrayBuffer(messageBytes)),
  };
}

/** The slot of an order. */
export function slotOf(number: number): number {
  return number & (orderSlots - 1);
}
