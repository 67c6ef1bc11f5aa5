import { broadcast } from "./broadcast.ts";
import { type Correction, type LinkMeasurements, predictMs } from "./choose.ts";
import { type Collective, collectiveNames, openCollective } from "./collective.ts";
import type { Group } from "./group.ts";
import { limitInFlight } from "./inFlight.ts";
import { median, timed } from "./timing.ts";
import type { Wire } from "./wire.ts";

/** A payload that is tried. */
interface Probe {
  /** Encoded. */
  readonly bytes: number;
  /** So often in a row, after a first time that opens the connections' windows. */
  readonly tries: number;
  /** What the model says is this many times slower than the best is not tried: no error of the model is as large. */
  readonly hopeless: number;
}

/** A decision, a token of decoding, and a part of a prompt, of which little may be sent only to try. */
const probes: readonly Probe[] = [
  { bytes: 64, tries: 3, hopeless: 2.5 },
  { bytes: 32 * 1024, tries: 3, hopeless: 2.5 },
  { bytes: 1024 * 1024, tries: 1, hopeless: 1.6 },
];
/** Nor is tried what the model says takes so many milliseconds. */
const longestMs = 400;
/**
 * All are tried in turns, so often as takes so many milliseconds, once at the least: a device that is held up for a
 * moment is so in one turn of several. The median of all tries counts.
 */
const [mostTurns, enoughMs] = [3, 250];

/** How many times longer than predicted each collective took with a payload, in the order of `collectiveNames`. */
export interface Trial {
  /** Of the payload, encoded. */
  readonly bytes: number;
  readonly factors: readonly number[];
}

/** By payload, the smallest first. */
export type Trials = readonly Trial[];

/**
 * Tries the promising collectives on a few payloads: the alpha-beta model knows neither what a message costs a device's
 * processor nor how a network deals with many senders at once. All ranks call it, with the same measurements, and get
 * the same. Throws `LINK_LOST`.
 */
export function calibrate(group: Group, measurements: LinkMeasurements): Trials {
  limitInFlight(group, measurements);
  return fitting(group).map((probe) => ({ bytes: probe.bytes, factors: tryAll(group, measurements, probe) }));
}

/**
 * What trials say of other payloads: between probes by the logarithm of the payload. What was not tried is taken to be as
 * far off as the worst that was.
 */
export function correctionOf(trials: Trials): Correction {
  return (name, payloadBytes) => interpolated(trials, collectiveNames.indexOf(name), payloadBytes);
}

/** The probes that are no larger than what will be added up. */
export function fitting({ wire, maxElements }: Pick<Group, "wire" | "maxElements">): readonly Probe[] {
  return probes.filter(({ bytes }) => elementsOf(wire, bytes) <= maxElements);
}

/** Values of the largest probe. */
export function probeElements(wire: Wire): number {
  return elementsOf(wire, probes.at(-1)!.bytes);
}

function elementsOf(wire: Wire, bytes: number): number {
  return Math.max(1, Math.floor(bytes / wire.blockBytes)) * wire.blockElements;
}

/** A collective at one payload: what the model says of it, and what it took, in milliseconds; nothing if not tried. */
interface Candidate {
  readonly collective: Collective;
  readonly predictedMs: number;
  readonly times: number[];
}

/** The factors at one payload, as rank 0 saw them. */
function tryAll(group: Group, measurements: LinkMeasurements, probe: Probe): number[] {
  const values = new Float32Array(elementsOf(group.wire, probe.bytes));
  const payload = group.wire.bytes(values.length);
  const candidates = collectiveNames.map((name): Candidate => {
    return { collective: openCollective(name, group), predictedMs: predictMs(name, measurements, payload), times: [] };
  });
  const best = Math.min(...candidates.map(({ predictedMs }) => predictedMs));
  const mostMs = Math.min(probe.hopeless * best, longestMs);
  const promising = candidates.filter(({ predictedMs }) => predictedMs <= mostMs);
  tryInTurns(promising, values, probe.tries);
  const factorOf = ({ times, predictedMs }: Candidate) => (times.length > 0 ? median(times) / predictedMs : 0);
  const seen = Float64Array.from(candidates, factorOf);
  broadcast(group, 0, new Uint8Array(seen.buffer));
  const worst = Math.max(1, ...seen);
  return Array.from(seen, (factor) => (factor > 0 ? factor : worst));
}

function tryInTurns(promising: readonly Candidate[], values: Float32Array, tries: number): void {
  const turnMs = promising.reduce((sum, { predictedMs }) => sum + (tries + 1) * predictedMs, 0);
  const turns = Math.max(1, Math.min(mostTurns, Math.floor(enoughMs / turnMs)));
  for (let turn = 0; turn < turns; turn++) {
    for (const { collective, times } of promising) {
      const taken = Array.from({ length: tries + 1 }, () => timed(() => collective.allReduce(values)));
      times.push(...taken.slice(1));
    }
  }
}

function interpolated(trials: Trials, index: number, payload: number): number {
  if (trials.length === 0) return 1;
  const after = trials.findIndex(({ bytes }) => bytes >= payload);
  if (after === 0) return trials[0]!.factors[index]!;
  if (after < 0) return trials.at(-1)!.factors[index]!;
  const [below, above] = [trials[after - 1]!, trials[after]!];
  const share = Math.log(payload / below.bytes) / Math.log(above.bytes / below.bytes);
  return below.factors[index]! * (1 - share) + above.factors[index]! * share;
}
