import type { LimitName, StepStatus } from "./schema.ts";

/** What a rank counted in some steps; see `profiledParts`. */
export interface CountedTimes {
  readonly rank: number;
  readonly steps: number;
  readonly computeMs: number;
  readonly diskMs: number;
  readonly wireMs: number;
  readonly cipherMs: number;
  readonly waitMs: number;
}

/** An average step of one rank, and what it spends most of it on. */
export interface RankLimit {
  readonly step: StepStatus;
  readonly limit: LimitName;
}

/** What holds back each rank, and the group. */
export interface Limits {
  readonly ranks: ReadonlyMap<number, RankLimit>;
  readonly bottleneck: { readonly rank: number; readonly limit: LimitName } | null;
}

/**
 * Finds out what limits each rank. The rank that waits least is the one that the others wait for. That it waits at all
 * is due to the network: so much of every rank's waiting counts as network, and only the rest as waiting for a slower
 * device.
 */
export function limitsOf(counted: readonly CountedTimes[]): Limits {
  const averages = counted.filter(({ steps }) => steps > 0).map(perStep);
  if (averages.length === 0) return { ranks: new Map(), bottleneck: null };
  const least = Math.min(...averages.map(({ waitMs }) => waitMs));
  const ranks = new Map(averages.map((average) => [average.rank, rankLimit(average, least)]));
  const slowest = averages.find(({ waitMs }) => waitMs === least)!.rank;
  return { ranks, bottleneck: { rank: slowest, limit: ranks.get(slowest)!.limit } };
}

function perStep({ rank, steps, ...times }: CountedTimes): CountedTimes {
  const { computeMs, diskMs, wireMs, cipherMs, waitMs } = times;
  return {
    rank,
    steps: 1,
    computeMs: computeMs / steps,
    diskMs: diskMs / steps,
    wireMs: wireMs / steps,
    cipherMs: cipherMs / steps,
    waitMs: waitMs / steps,
  };
}

function rankLimit({ computeMs, diskMs, wireMs, cipherMs, waitMs }: CountedTimes, leastWaitMs: number): RankLimit {
  const step = {
    computeMs,
    diskMs,
    networkMs: wireMs + cipherMs + leastWaitMs,
    cipherMs,
    waitMs: waitMs - leastWaitMs,
  };
  const parts: readonly (readonly [LimitName, number])[] = [
    ["compute", step.computeMs],
    ["disk", step.diskMs],
    ["network", step.networkMs],
    ["waiting", step.waitMs],
  ];
  const [limit] = parts.reduce((most, part) => (part[1] > most[1] ? part : most));
  return { step, limit };
}
