import { binomialTree } from "./binomialTree.ts";
import type { CollectiveName } from "./collective.ts";

/** What was measured between the ranks; plain JSON, the same on all of them. Rows send, columns receive. */
export interface LinkMeasurements {
  readonly size: number;
  /** One-way latency of a small frame in milliseconds. */
  readonly latencyMs: readonly (readonly number[])[];
  /** Rate of a pair that has the network to itself, in bytes per millisecond. */
  readonly bytesPerMs: readonly (readonly number[])[];
}

/** The collective that is predicted to be fastest for a payload, and what the others would take. */
export interface Choice {
  readonly name: CollectiveName;
  readonly payloadBytes: number;
  readonly predictedMs: number;
  /** The other collectives, fastest first. */
  readonly alternatives: readonly { readonly name: CollectiveName; readonly predictedMs: number }[];
  /** One sentence for people. */
  readonly why: string;
}

/** What a prediction is multiplied by: how much longer a collective was seen to take than the model says. */
export type Correction = (name: CollectiveName, payloadBytes: number) => number;

/** Trials of the same collective differ by so much: what they say is faster by less is not. */
const scatter = 1.2;

/**
 * Predicts every collective for an encoded payload of so many bytes, and chooses the fastest: the one that is so by the model
 * alone, unless another is by the correction too, and by more than trials scatter.
 */
export function chooseCollective(
  measurements: LinkMeasurements,
  payloadBytes: number,
  correction: Correction = () => 1,
): Choice {
  const network = new Network(measurements);
  const all = (Object.keys(predictions) as CollectiveName[]).map((name) => {
    const modelMs = predictions[name](network, payloadBytes);
    return { name, modelMs, predictedMs: modelMs * correction(name, payloadBytes) };
  });
  const byModel = all.reduce((best, other) => (other.modelMs < best.modelMs ? other : best));
  const [fastest] = all.sort((a, b) => a.predictedMs - b.predictedMs);
  const best = byModel.predictedMs <= scatter * fastest!.predictedMs ? byModel : fastest!;
  const alternatives = all.filter((other) => other !== best).map(({ name, predictedMs }) => ({ name, predictedMs }));
  const { name, predictedMs } = best;
  const next = alternatives[0]!;
  const why =
    `${name} is predicted to take ${predictedMs.toFixed(2)} ms for ${payloadBytes} bytes over ${network.size} devices, ` +
    `${next.name} ${next.predictedMs.toFixed(2)} ms (latency up to ${network.latency.toFixed(2)} ms, ` +
    `rates down to ${((network.slowestRate * 8) / 1000).toFixed(0)} Mbit/s)`;
  return { name, payloadBytes, predictedMs, alternatives, why };
}

/** Milliseconds that a collective takes for a payload, by the model below. */
export function predictMs(name: CollectiveName, measurements: LinkMeasurements, payloadBytes: number): number {
  return predictions[name](new Network(measurements), payloadBytes);
}

/**
 * The alpha-beta model: a hop takes its latency, and the bytes that a rank sends or receives in it share that rank's
 * own rate, the best that was measured from or to it (so incast counts at the centre of a star, and at every rank of an
 * exchange). A hop is over when the slowest rank is done with it.
 */
const predictions: Record<CollectiveName, (network: Network, bytes: number) => number> = {
  star: (network, bytes) => {
    const points = network.ranks.slice(1);
    const gathering = network.hop(points.map((from) => ({ from, to: 0, bytes })));
    return gathering + network.hop(points.map((to) => ({ from: 0, to, bytes })));
  },
  exchange: (network, bytes) => network.hop(network.pairs.map((pair) => ({ ...pair, bytes }))),
  mesh: (network, bytes) => {
    const part = bytes / network.size;
    return 2 * network.hop(network.pairs.map((pair) => ({ ...pair, bytes: part })));
  },
  ring: (network, bytes) => {
    const { size, ranks } = network;
    const step = network.hop(ranks.map((from) => ({ from, to: (from + 1) % size, bytes: bytes / size })));
    return 2 * (size - 1) * step;
  },
  tree: (network, bytes) => treeMs(network, bytes),
};

/** Sums go up as soon as a rank's children's have come, one after the other; the result comes down to all children. */
function treeMs(network: Network, bytes: number): number {
  const up = (rank: number): number => {
    const { children } = binomialTree(rank, network.size);
    return children.reduce(
      (ready, child) => Math.max(ready, up(child)) + network.hop([{ from: child, to: rank, bytes }]),
      0,
    );
  };
  const down = (rank: number): number => {
    const { children } = binomialTree(rank, network.size);
    if (children.length === 0) return 0;
    const hop = network.hop(children.map((to) => ({ from: rank, to, bytes })));
    return hop + Math.max(...children.map(down));
  };
  return up(0) + down(0);
}

interface Message {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

class Network {
  readonly size: number;
  readonly ranks: readonly number[];
  readonly pairs: readonly { readonly from: number; readonly to: number }[];
  readonly latency: number;
  readonly slowestRate: number;
  readonly #measured: LinkMeasurements;
  /** Bytes per millisecond that a rank sends and receives at most. */
  readonly #up: readonly number[];
  readonly #down: readonly number[];

  constructor(measured: LinkMeasurements) {
    const ranks = Array.from({ length: measured.size }, (_, rank) => rank);
    this.size = measured.size;
    this.ranks = ranks;
    this.pairs = ranks.flatMap((from) => ranks.filter((to) => to !== from).map((to) => ({ from, to })));
    this.#measured = measured;
    const rates = (rank: number, of: (other: number) => number) =>
      Math.max(...ranks.filter((other) => other !== rank).map(of));
    this.#up = ranks.map((rank) => rates(rank, (to) => measured.bytesPerMs[rank]![to]!));
    this.#down = ranks.map((rank) => rates(rank, (from) => measured.bytesPerMs[from]![rank]!));
    this.latency = Math.max(...this.pairs.map(({ from, to }) => measured.latencyMs[from]![to]!));
    this.slowestRate = Math.min(...this.pairs.map(({ from, to }) => measured.bytesPerMs[from]![to]!));
  }

  /** Milliseconds until all messages that set out at once have arrived. */
  hop(messages: readonly Message[]): number {
    const out = new Float64Array(this.size);
    const into = new Float64Array(this.size);
    for (const { from, to, bytes } of messages) {
      out[from]! += bytes;
      into[to]! += bytes;
    }
    const times = messages.map(({ from, to, bytes }) => {
      const own = bytes / this.#measured.bytesPerMs[from]![to]!;
      const shared = Math.max(own, out[from]! / this.#up[from]!, into[to]! / this.#down[to]!);
      return this.#measured.latencyMs[from]![to]! + shared;
    });
    return Math.max(0, ...times);
  }
}
