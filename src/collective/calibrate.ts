import { broadcast } from "./broadcast.ts";
import { type Correction, type LinkMeasurements, predictMs } from "./choose.ts";
import { type CollectiveName, collectiveNames, openCollective } from "./collective.ts";
import type { Group } from "./group.ts";

/** Encoded payloads that are tried, in bytes: a decision, a token of decoding, a part of a prompt. */
const probes = [64, 32 * 1024, 1024 * 1024];
/** What the model says is this many times slower than the best is not tried: no error of the model is as large. */
const hopeless = 2.5;
/** Nor is what it says takes so many milliseconds. */
const longestMs = 400;
/** Each is tried so often after a first time that opens the connections' windows; the median counts. */
const tries = 3;

/**
 * Tries the promising collectives on a few payloads: the alpha-beta model knows neither what a message costs a device's
 * processor nor how a network deals with many senders at once. All ranks call it, with the same measurements, and get
 * the same correction: how many times longer than predicted a collective takes, between probes by the logarithm of the
 * payload; what was not tried is taken to be as far off as the worst that was. Throws `LINK_LOST`.
 */
export function calibrate(group: Group, measurements: LinkMeasurements): Correction {
  const fitting = probes.filter((bytes) => elementsOf(group, bytes) <= group.maxElements);
  const factors = fitting.map((bytes) => tryAll(group, measurements, bytes));
  return (name, payloadBytes) => interpolated(fitting, factors, name, payloadBytes);
}

function elementsOf({ wire }: Group, bytes: number): number {
  return Math.max(1, Math.floor(bytes / wire.blockBytes)) * wire.blockElements;
}

type Factors = Record<CollectiveName, number>;

/** The factors at one payload, as rank 0 saw them. */
function tryAll(group: Group, measurements: LinkMeasurements, bytes: number): Factors {
  const values = new Float32Array(elementsOf(group, bytes));
  const payload = group.wire.bytes(values.length);
  const predicted = collectiveNames.map((name) => predictMs(name, measurements, payload));
  const best = Math.min(...predicted);
  const seen = Float64Array.from(collectiveNames, (name, i) => {
    const promising = predicted[i]! <= hopeless * best && predicted[i]! <= longestMs;
    return promising ? medianMs(group, name, values) / predicted[i]! : 0;
  });
  broadcast(group, 0, new Uint8Array(seen.buffer));
  const worst = Math.max(1, ...seen);
  return Object.fromEntries(collectiveNames.map((name, i) => [name, seen[i]! > 0 ? seen[i]! : worst])) as Factors;
}

function medianMs(group: Group, name: CollectiveName, values: Float32Array): number {
  const collective = openCollective(name, group);
  const times = Array.from({ length: tries + 1 }, () => {
    const started = performance.now();
    collective.allReduce(values);
    return performance.now() - started;
  });
  return times.slice(1).sort((a, b) => a - b)[(tries - 1) / 2]!;
}

function interpolated(
  payloads: readonly number[],
  factors: readonly Factors[],
  name: CollectiveName,
  payload: number,
): number {
  if (payloads.length === 0) return 1;
  const after = payloads.findIndex((bytes) => bytes >= payload);
  if (after === 0) return factors[0]![name];
  if (after < 0) return factors.at(-1)![name];
  const [below, above] = [payloads[after - 1]!, payloads[after]!];
  const share = Math.log(payload / below) / Math.log(above / below);
  return factors[after - 1]![name] * (1 - share) + factors[after]![name] * share;
}
