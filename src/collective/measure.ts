import { broadcast } from "./broadcast.ts";
import type { LinkMeasurements } from "./choose.ts";
import type { Group } from "./group.ts";
import type { Link } from "./link.ts";
import { transfer } from "./transfer.ts";

/** Bytes and number of the frames that latency is measured by. */
const pingBytes = 64;
const pings = 32;
/**
 * The rate is measured by ever more bytes until they take this long beyond the latency and go hardly faster than half as
 * many did, or are `mostBytes`: over a long way, a connection opens its window round trip by round trip.
 */
const longEnoughMs = 20;
const hardlyFaster = 1.2;
const [fewestBytes, mostBytes] = [128 * 1024, 16 * 1024 * 1024];

/**
 * Measures latency and rate between all pairs of ranks, over their links and through their ciphers. All ranks call it.
 * A rank is in one pair at a time, so that pairs that are measured at the same time share no device's link. Blocks for
 * some (N-1) tenths of a second at 300 Mbit/s. Every rank gets the same table. Throws `LINK_LOST`.
 */
export function measure(group: Group): LinkMeasurements {
  // Per rank: latencies to the others, rates to them, rates from them. The lower rank of a pair fills in.
  const rows = Array.from({ length: group.size }, () => new Float64Array(3 * group.size));
  group.run(() => {
    for (const partner of partnersOf(group.rank, group.size)) measurePair(group, partner, rows[group.rank]!);
  });
  for (const [rank, row] of rows.entries()) broadcast(group, rank, new Uint8Array(row.buffer));
  return tableOf(rows);
}

/**
 * The other ranks, in an order in which everyone's partner has this rank as partner in the same round: the circle
 * method of round-robin tournaments.
 */
export function partnersOf(rank: number, size: number): number[] {
  const seats = size + (size % 2);
  const rounds = Array.from({ length: seats - 1 }, (_, round) => partnerIn(round, rank, seats));
  return rounds.filter((partner) => partner < size);
}

function partnerIn(round: number, rank: number, seats: number): number {
  const fixed = seats - 1;
  // The fixed seat meets whoever would meet itself in this round.
  if (rank === fixed) return (round * (seats / 2)) % fixed;
  const partner = (round - rank + fixed) % fixed;
  return partner === rank ? fixed : partner;
}

function measurePair(group: Group, partner: number, row: Float64Array): void {
  const link = group.link(partner);
  const [latency, toPartner, fromPartner] = [partner, group.size + partner, 2 * group.size + partner];
  if (group.rank < partner) {
    row[latency] = pingPartner(group, link);
    row[toPartner] = 1 / bulkTime((bytes) => sendBulk(group, link, bytes), row[latency]!);
    row[fromPartner] = 1 / bulkTime((bytes) => askBulk(group, link, bytes), row[latency]!);
    tell(group, link, 0);
  } else {
    for (let i = 0; i < pings; i++) echo(group, link);
    answerBulk(group, link);
  }
}

/** Half of the median round trip, in milliseconds. */
function pingPartner(group: Group, link: Link): number {
  const bytes = new Uint8Array(pingBytes);
  const times = Array.from({ length: pings }, () => {
    const started = performance.now();
    send(group, link, bytes);
    receive(group, link, bytes.length);
    return performance.now() - started;
  });
  return times.sort((a, b) => a - b)[pings / 2]! / 2;
}

function echo(group: Group, link: Link): void {
  receive(group, link, pingBytes);
  send(group, link, new Uint8Array(pingBytes));
}

/** Milliseconds per byte. `move` moves bytes and comes back when the other side has answered. */
function bulkTime(move: (bytes: number) => void, latencyMs: number): number {
  for (let bytes = fewestBytes, before = Number.POSITIVE_INFINITY; ; bytes *= 2) {
    const started = performance.now();
    move(bytes);
    const ms = performance.now() - started;
    const flowing = Math.max(ms - 2 * latencyMs, ms / 10);
    const perByte = flowing / bytes;
    if (bytes >= mostBytes || (flowing >= longEnoughMs && before < perByte * hardlyFaster)) return perByte;
    before = perByte;
  }
}

function sendBulk(group: Group, link: Link, bytes: number): void {
  tell(group, link, bytes);
  send(group, link, new Uint8Array(bytes));
  receive(group, link, pingBytes);
}

function askBulk(group: Group, link: Link, bytes: number): void {
  tell(group, link, -bytes);
  receive(group, link, bytes);
}

/** Does what the lower rank tells it to, until that is 0: takes bytes and says so, or sends as many. */
function answerBulk(group: Group, link: Link): void {
  for (;;) {
    const bytes = told(group, link);
    if (bytes === 0) return;
    if (bytes < 0) send(group, link, new Uint8Array(-bytes));
    else receiveAndSay(group, link, bytes);
  }
}

function receiveAndSay(group: Group, link: Link, bytes: number): void {
  receive(group, link, bytes);
  send(group, link, new Uint8Array(pingBytes));
}

function tell(group: Group, link: Link, bytes: number): void {
  send(group, link, new Uint8Array(Int32Array.of(bytes).buffer));
}

function told(group: Group, link: Link): number {
  const bytes = new Uint8Array(4);
  receive(group, link, 4, (part) => bytes.set(part));
  const asked = new Int32Array(bytes.buffer)[0]!;
  return Math.max(-mostBytes, Math.min(mostBytes, asked));
}

function send(group: Group, link: Link, bytes: Uint8Array): void {
  transfer(group, [{ link, bytes }], []);
}

function receive(group: Group, link: Link, bytes: number, take: (part: Uint8Array) => void = () => {}): void {
  transfer(group, [], [{ link, bytes, take }]);
}

function tableOf(rows: readonly Float64Array[]): LinkMeasurements {
  const size = rows.length;
  const table = (of: (from: number, to: number) => number) =>
    Array.from({ length: size }, (_, from) =>
      Array.from({ length: size }, (_, to) => (from === to ? 0 : of(from, to))),
    );
  return {
    size,
    latencyMs: table((from, to) => rows[Math.min(from, to)]![Math.max(from, to)]!),
    bytesPerMs: table((from, to) => (from < to ? rows[from]![size + to]! : rows[to]![2 * size + from]!)),
  };
}
