import { workerData } from "node:worker_threads";
import { addFigures, type LinkStatistics } from "../../collective/group.ts";
import { openWire } from "../../collective/wire.ts";
import type { Pointer } from "../../native/ggml.ts";
import { viewFloats } from "../../native/memory.ts";
import { openRecorder } from "../../trace/recorder.ts";
import { spanKind } from "../../trace/spans.ts";
import { FirstValues } from "../firstValues.ts";
import { failureOf } from "../protocol.ts";
import { readJson, writeJson } from "../sharedJson.ts";
import {
  type CommunicationStart,
  linkFigures,
  type OpenOrder,
  order,
  orderCell,
  outcome,
  slotOf,
} from "./communicationProtocol.ts";
import { openLinkSet } from "./linkSets.ts";
import {
  openReductions,
  type Reduction,
  type ReductionChoice,
  type Reductions,
  type SumGroups,
  sumGroups,
} from "./reduction.ts";

// The communication thread: adds up over links of its own while the engine thread computes. It blocks on purpose.
const { memory, trace } = workerData as CommunicationStart;
const { cells, addresses, statistics, message } = memory;
const recorder = openRecorder(trace);

let groups: SumGroups | undefined;
let reductions: Reductions | undefined;
/** What opening the links and trying them took: it is no part of the figures. */
let before: LinkStatistics | undefined;
let failed = false;
/** Each lane's sums, by their address. */
const lanes = new Map<Pointer, FirstValues<Float32Array>>();

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
    else if (what === order.sum) sum(slot, reductions!.usual);
    else if (what === order.exactSum) sum(slot, reductions!.exact);
    else close();
    return outcome.done;
  } catch (error) {
    // The engine thread may be reading the first failure.
    if (!failed) give(failureOf(error));
    failed = true;
    return outcome.failed;
  }
}

function open({ listener, setup, largest, deadlineMs }: OpenOrder): void {
  close();
  failed = false;
  const { rank, size, wire } = setup;
  const links = openLinkSet("communication", listener, setup, deadlineMs);
  groups = sumGroups({ rank, size, links, wire: openWire(wire) }, largest);
  give([...links.values()].map(({ socket }) => socket));
}

function choose(choice: ReductionChoice): void {
  const { usual, exact } = groups!;
  reductions = openReductions(choice, { usual, exact });
  before = usual.statistics();
  usual.recorder = recorder;
  exact.recorder = recorder;
}

function sum(slot: number, { collective, wire }: Reduction): void {
  const values = valuesAt(addresses[slot]!, cells[orderCell.elements + slot]!);
  const started = recorder.now();
  collective.allReduce(values);
  recorder.end(spanKind.reduce, started, cells[orderCell.subjects + slot], wire.bytes(values.length));
}

function valuesAt(address: Pointer, count: number): Float32Array {
  const known = lanes.get(address);
  const lane = known !== undefined && known.all.length >= count ? known : new FirstValues(viewFloats(address, count));
  lanes.set(address, lane);
  return lane.of(count);
}

function close(): void {
  groups?.usual[Symbol.dispose]();
  groups = undefined;
  before = undefined;
}

function publishFigures(): void {
  if (groups === undefined || before === undefined) return;
  const figures = addFigures(groups.usual.statistics(), before, -1);
  statistics.set(linkFigures.map((name) => figures[name]));
}

function take<T>(): T {
  return readJson<T>(message, cells[orderCell.messageBytes]!);
}

function give(value: unknown): void {
  cells[orderCell.messageBytes] = writeJson(message, value);
}
