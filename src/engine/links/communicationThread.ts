import { workerData } from "node:worker_threads";
import type { Collective } from "../../collective/collective.ts";
import { addFigures, Group, type LinkStatistics } from "../../collective/group.ts";
import { openWire } from "../../collective/wire.ts";
import type { Pointer } from "../../native/ggml.ts";
import { viewFloats } from "../../native/memory.ts";
import { openRecorder } from "../../trace/recorder.ts";
import { spanKind } from "../../trace/spans.ts";
import { readJson, writeJson } from "../exchange.ts";
import { FirstValues } from "../firstValues.ts";
import { failureOf } from "../protocol.ts";
import {
  type CommunicationStart,
  linkFigures,
  type OpenOrder,
  order,
  orderCell,
  outcome,
  slotOf,
} from "./communicationProtocol.ts";
import { openLinkSet, sumDeadline } from "./linkSets.ts";
import { openReduction, type ReductionChoice } from "./reduction.ts";

// The communication thread: adds up over links of its own while the engine thread computes. It blocks on purpose.
const { memory, trace } = workerData as CommunicationStart;
const { cells, addresses, statistics, exchange } = memory;
const recorder = openRecorder(trace);

let group: Group | undefined;
let collective: Collective | undefined;
/** What opening the links and trying them took: it is no part of the figures. */
let before: LinkStatistics | undefined;
let failed = false;
/** Each lane's sums, by their address. */
const lanes = new Map<Pointer, FirstValues>();

try {
  run();
} finally {
  close();
  Atomics.store(cells, orderCell.ended, 1);
  // Whoever waits for an order, of whatever number, wakes up.
  Atomics.add(cells, orderCell.done, 2 ** 30);
  Atomics.notify(cells, orderCell.done);
}

/** Does what it is told, in order, until it is told to end. */
function run(): void {
  for (let number = 0; ; number = (number + 1) | 0) {
    // A notification for the order before may come late, and wake this wait instead.
    while (Atomics.load(cells, orderCell.given) === number) Atomics.wait(cells, orderCell.given, number);
    const slot = slotOf(number);
    const what = cells[orderCell.orders + slot];
    if (what === order.end) return;
    cells[orderCell.statuses + slot] = outcomeOf(what, slot);
    publishFigures();
    Atomics.store(cells, orderCell.done, (number + 1) | 0);
    Atomics.notify(cells, orderCell.done);
  }
}

function outcomeOf(what: number | undefined, slot: number): number {
  try {
    if (what === order.open) open(take<OpenOrder>());
    else if (what === order.choose) choose(take<ReductionChoice>());
    else if (what === order.sum) sum(slot);
    else close();
    return outcome.done;
  } catch (error) {
    // The engine thread may be reading the first failure.
    if (!failed) give(failureOf(error));
    failed = true;
    return outcome.failed;
  }
}

function open({ listener, setup, maxElements, deadlineMs }: OpenOrder): void {
  close();
  failed = false;
  const { rank, size, wire } = setup;
  const links = openLinkSet("communication", listener, setup, deadlineMs);
  group = new Group({ rank, size, links, wire: openWire(wire), maxElements, deadlineMs: sumDeadline });
  give([...links.values()].map(({ socket }) => socket));
}

function choose(choice: ReductionChoice): void {
  collective = openReduction(choice, group!);
  before = group!.statistics();
  group!.recorder = recorder;
}

function sum(slot: number): void {
  const values = valuesAt(addresses[slot]!, cells[orderCell.elements + slot]!);
  const started = recorder.now();
  collective!.allReduce(values);
  recorder.end(spanKind.reduce, started, cells[orderCell.subjects + slot], group!.wire.bytes(values.length));
}

function valuesAt(address: Pointer, count: number): Float32Array {
  const known = lanes.get(address);
  const lane = known !== undefined && known.all.length >= count ? known : new FirstValues(viewFloats(address, count));
  lanes.set(address, lane);
  return lane.of(count);
}

function close(): void {
  group?.[Symbol.dispose]();
  group = undefined;
  before = undefined;
}

function publishFigures(): void {
  if (group === undefined || before === undefined) return;
  const figures = addFigures(group.statistics(), before, -1);
  statistics.set(linkFigures.map((name) => figures[name]));
}

function take<T>(): T {
  return readJson<T>(exchange, cells[orderCell.exchangeBytes]!);
}

function give(value: unknown): void {
  cells[orderCell.exchangeBytes] = writeJson(exchange, value);
}
