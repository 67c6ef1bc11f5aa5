import { median } from "../collective/timing.ts";
import { StelliumError } from "../errors.ts";
import { StoredEvents, type TraceEvent, type TraceEvents, traceClock } from "../trace/events.ts";
import { keptSpans } from "../trace/recorder.ts";
import { amountName, tracedThreads } from "../trace/spans.ts";
import type { CoordinatorChannel } from "./control/client.ts";
import type { CoordinatorMessage, WorkerMessage } from "./control/messages.ts";

/** Events of one message: with their names they stay far below the most bytes of one. */
const messageEvents = 2048;
/** All that a rank may have recorded. */
const mostEvents = keptSpans * tracedThreads.length;
/** Round trips that clocks are compared by. */
const comparisons = 15;
/** Bytes of all events as they are kept. Those of the longest trace take a fraction. */
const mostStoredBytes = 64 * 2 ** 20;
/** A rank that says nothing for so long is left out, and so is one that takes so long for all it says. */
const patienceMs = 5000;
const tracePatienceMs = 60_000;
/** No span is longer, or longer ago, in microseconds. */
const longestAgo = 30 * 86_400e6;
/** By how much clocks that were compared may differ all the same, in microseconds. */
const clockSlack = 60e6;

/** Sends all that was recorded. */
export async function sendTrace(channel: CoordinatorChannel, { events, dropped }: TraceEvents): Promise<void> {
  const send = (part: TraceEvent[], last: boolean) => channel.send({ type: "trace", events: part, dropped, last });
  let [part, left]: [TraceEvent[], number] = [[], events.length];
  if (left === 0) await send([], true);
  for (const event of events) {
    part.push(event);
    left--;
    if (part.length < messageEvents && left > 0) continue;
    await send(part, left === 0);
    part = [];
  }
}

/** The other end, as far as traces go. */
export interface TracePeer {
  send(message: CoordinatorMessage): Promise<void>;
  take<T extends WorkerMessage["type"]>(type: T): Promise<Extract<WorkerMessage, { type: T }>>;
}

/**
 * Asks a worker for all that it recorded. Throws `PROTOCOL_VIOLATION`, also for spans that no rank records, `WORKER_LOST`,
 * and where it takes too long.
 *
 * @param aheadBy - microseconds that its clock is ahead
 */
export async function receiveTrace(peer: TracePeer, aheadBy: number): Promise<TraceEvents> {
  await peer.send({ type: "trace-request" });
  const events = new StoredEvents();
  const deadline = performance.now() + tracePatienceMs;
  while (performance.now() < deadline) {
    const message = await soon(peer.take("trace"));
    const now = traceClock() + aheadBy;
    if (!message.events.every((event) => isPlausible(event, now)))
      throw violation("its trace has spans that no rank records");
    events.add(message.events);
    const fits = events.length <= mostEvents && events.bytes <= mostStoredBytes;
    if (message.last && fits) return { events, dropped: message.dropped };
    if (message.events.length === 0 || !fits)
      throw violation(`its trace has an empty part, or more than ${mostEvents} events`);
  }
  throw new Error(`its trace was not complete after ${tracePatienceMs / 1000} s`);
}

/** @param now - by the clock of the rank that recorded it */
function isPlausible({ thread, start, duration, figures = {} }: TraceEvent, now: number): boolean {
  const inTime = start > now - longestAgo && start + duration < now + clockSlack;
  const known = (tracedThreads as readonly string[]).includes(thread);
  return known && duration >= 0 && inTime && Object.keys(figures).every((name) => figureNames.has(name));
}

const figureNames: ReadonlySet<string> = new Set(Object.values(amountName));

function violation(reason: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "a worker", reason });
}

/**
 * Microseconds that a worker's clock is ahead of this device's: the median over some round trips, each of which is taken
 * to last as long there as back.
 */
export async function clockAhead(peer: TracePeer): Promise<number> {
  const ahead: number[] = [];
  for (let sequence = 0; sequence < comparisons; sequence++) {
    const sent = traceClock();
    await peer.send({ type: "clock-request", sequence });
    const { now } = await soon(peer.take("clock"));
    ahead.push(now - (sent + traceClock()) / 2);
  }
  return median(ahead);
}

/** Rejects where an answer takes too long. */
async function soon<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not answer for ${patienceMs / 1000} s`)), patienceMs);
  });
  answer.catch(() => {});
  return await Promise.race([answer, late]).finally(() => clearTimeout(timer));
}
