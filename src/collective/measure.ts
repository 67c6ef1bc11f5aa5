import type { LinkMeasurements } from "./choose.ts";
import type { Group } from "./group.ts";
import { inPairs, type PairLead, type PairTable } from "./pairs.ts";

/** What a first look at the links shows, by which they are known again. In milliseconds. */
export interface LinkLook {
  readonly size: number;
  /** One-way latency of a small frame. */
  readonly latencyMs: PairTable;
  /** What `lookBytes` take, there and an answer back. */
  readonly glanceMs: PairTable;
}

/** Bytes of a first transfer. The faster of two counts: the first may have to wait until its connection's window opens. */
const lookBytes = 32 * 1024;

/**
 * The rate is measured by ever more bytes until they take so long beyond the latency and go hardly faster than half as
 * many did, or are enough: a link on which so much takes no longer is fast, whatever the exact figure. Over a long way, a
 * connection opens its window round trip by round trip: more is sent there while it takes less than two of these.
 */
const longEnoughMs = 10;
const hardlyFaster = 1.2;
const [fewestBytes, enoughBytes, mostBytes] = [64 * 1024, 512 * 1024, 4 * 1024 * 1024];

/**
 * Measures latencies between all pairs of ranks, over their links and through their ciphers, and has a glance at their
 * rates. A pair sends 140 KB. All ranks call it, and get the same. Blocks. Throws `LINK_LOST`.
 */
export function lookAt(group: Group): LinkLook {
  const found = inPairs(group, 3, (lead) => {
    const twice = (move: () => number) => Math.min(move(), move());
    return [lead.ping(), twice(() => lead.send(lookBytes)), twice(() => lead.ask(lookBytes))];
  });
  return {
    size: group.size,
    latencyMs: tableOf(group.size, (from, to) => found(Math.min(from, to), Math.max(from, to))[0]!),
    glanceMs: tableOf(group.size, (from, to) => (from < to ? found(from, to)[1]! : found(to, from)[2]!)),
  };
}

/**
 * Measures the rates between all pairs of ranks. A pair sends 2 MB at most, and more only over a way that is long and
 * fast. All ranks call it, and get the same. Blocks for some (N-1) tenths of a second at 100 Mbit/s. Throws `LINK_LOST`.
 */
export function measureRates(group: Group, { latencyMs }: LinkLook): LinkMeasurements {
  const found = inPairs(group, 2, (lead) => {
    const latency = latencyMs[group.rank]![lead.partner]!;
    return [rateOf(lead.send, latency), rateOf(lead.ask, latency)];
  });
  const bytesPerMs = tableOf(group.size, (from, to) => (from < to ? found(from, to)[0]! : found(to, from)[1]!));
  return { size: group.size, latencyMs, bytesPerMs };
}

/** Bytes per millisecond. `move` moves bytes and tells the milliseconds that it took until the other side had answered. */
export function rateOf(move: PairLead["send"], latencyMs: number): number {
  for (let bytes = fewestBytes, before = 0; ; bytes *= 2) {
    const ms = move(bytes);
    const flowing = Math.max(ms - 2 * latencyMs, ms / 10);
    const rate = bytes / flowing;
    const steady = rate < before * hardlyFaster;
    const opening = !steady && flowing < 4 * latencyMs && bytes < mostBytes;
    if (bytes < enoughBytes ? steady && flowing >= longEnoughMs : !opening) return Math.max(rate, before);
    before = rate;
  }
}

function tableOf(size: number, of: (from: number, to: number) => number): PairTable {
  const ranks = Array.from({ length: size }, (_, rank) => rank);
  return ranks.map((from) => ranks.map((to) => (from === to ? 0 : of(from, to))));
}
