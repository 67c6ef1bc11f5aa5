import { chooseCollective, type LinkMeasurements, predictMs } from "../collective/choose.ts";
import type { CollectiveName } from "../collective/collective.ts";
import { type WireName, wireBytes } from "../collective/wireBlock.ts";
import type { BlockSum } from "../model/blocks/definitions.ts";
import type { BlockWork, DeviceMemory, ExpertMemory } from "./deviceMemory.ts";
import { type PassBounds, type PassTiming, stepBounds, sum, type TimedDevice, type WindowRule } from "./passTiming.ts";
import { type DeviceTimes, simulate } from "./simulation.ts";
import { isSteady, isTightlySteady } from "./steadyState.ts";

/** How fast a device is. */
export interface DeviceRates {
  /** Bytes of weights that one token's computing takes in per second, from memory. */
  readonly computeBytesPerSecond: number;
  readonly diskBytesPerSecond: number;
}

/** A device, as far as it decides how long a pass takes. */
export interface PlannedDevice {
  readonly memory: DeviceMemory;
  readonly rates: DeviceRates;
}

/** Links that are all alike. */
export interface LinkFigures {
  /** One way. */
  readonly latencyMs: number;
  /** In each direction. */
  readonly bytesPerSecond: number;
}

/** A cluster that may exist or not. */
export interface PlannedCluster {
  /** By rank; rank 0 has the head. */
  readonly devices: readonly PlannedDevice[];
  readonly embeddingLength: number;
  /** Values that rank 0 sends with each token. */
  readonly inputValues: number;
  readonly link: LinkFigures;
  readonly wire: WireName;
  readonly collective: CollectiveName | "auto";
  /** How many prompt tokens are computed in the time of one token that is written. */
  readonly promptSpeedup: number;
  /**
   * Maps the fraction of experts that fit in memory to the fraction of uses that find their expert there (both 0 to 1).
   * The identity if absent: all experts equally likely.
   */
  readonly hitRate?: ((part: number) => number) | undefined;
}

/** What holds a pass back; `window`: the disk would be fast enough, but the window holds too little. */
export type Limit = "compute" | "disk" | "network" | "window";

/** A prediction of a pass. */
export interface StepPrediction extends PassBounds {
  readonly tokens: number;
  readonly stepMs: number;
  readonly limit: Limit;
  /** True if no device will wait for its disk, and whether that holds block by block. */
  readonly steady: boolean;
  readonly tightlySteady: boolean;
  readonly network: NetworkPrediction;
  /** Reading the experts that are not in memory, some of it while the devices compute and communicate. */
  readonly expertMs: number;
  /** By rank. */
  readonly experts: readonly ExpertReads[];
  /** By rank. */
  readonly devices: readonly DeviceTimes[];
}

/** Expert reads of one device in one pass. */
export interface ExpertReads {
  /** Fraction of uses that find their expert in memory, 0 to 1. */
  readonly hitRate: number;
  readonly bytes: number;
}

/** How the partial sums of a pass travel. */
export interface NetworkPrediction {
  /** `solo` where there is one device. */
  readonly collective: CollectiveName | "solo";
  readonly payloadBytes: number;
  readonly allReduceMs: number;
  /** What rank 0 sends to all at the start of a pass. */
  readonly broadcastMs: number;
}

/** Predicts a pass of `tokens` tokens (1 is decoding) in the long run, each pass of the same kind as the one before. */
export function predictStep(cluster: PlannedCluster, tokens: number, rule: WindowRule = {}): StepPrediction {
  const network = predictNetwork(cluster, tokens);
  const step = stepOf(cluster, tokens, network);
  const { diskMs, leastMs, ...bounds } = stepBounds(step);
  const { stepMs, devices } = simulate(step, rule);
  const reads = cluster.devices.map((device) => expertReads(device, tokens, cluster.hitRate));
  const expertMs = expertReadMs(cluster.devices, reads);
  const disk = { diskMs: diskMs + expertMs, leastMs: Math.max(leastMs, diskMs + expertMs) };
  const limit = expertMs > stepMs ? "disk" : limitOf({ ...bounds, diskMs, leastMs }, stepMs);
  return {
    ...bounds,
    ...disk,
    ...{ tokens, stepMs: withReads(cluster, tokens, stepMs, expertMs), limit, network, expertMs, devices },
    experts: reads.map(({ hitRate, blockBytes }) => ({ hitRate, bytes: sum(blockBytes) })),
    steady: isSteady(step, rule),
    tightlySteady: isTightlySteady(step),
  };
}

/** Part of the shorter one of computing and reading experts that is not hidden by the longer one; measured, see docs/memory.md. */
const unhidden = 0.3;

/** Milliseconds of a pass with its reads of experts: in decoding they are read ahead, unless other weights are streamed. */
function withReads({ devices }: PlannedCluster, tokens: number, stepMs: number, expertMs: number): number {
  const streams = devices.some(({ memory }) => memory.window.streamedBytes > 0);
  if (tokens > 1 || streams) return stepMs + expertMs;
  return Math.max(stepMs, expertMs) + unhidden * Math.min(stepMs, expertMs);
}

/** Milliseconds in which, block after block, the slowest device reads the experts that are not in memory. */
function expertReadMs(devices: readonly PlannedDevice[], reads: readonly BlockReads[]): number {
  const ofBlock = (i: number) => (device: PlannedDevice, rank: number) =>
    (reads[rank]!.blockBytes[i]! * 1000) / device.rates.diskBytesPerSecond;
  return sum(devices[0]!.memory.blockBytes.map((_, i) => Math.max(...devices.map(ofBlock(i)))));
}

/** The same, by block. */
interface BlockReads {
  readonly hitRate: number;
  readonly blockBytes: readonly number[];
}

/** Uses the recorded hit rate for decoding only: a prompt uses nearly every expert. */
function expertReads(
  { memory: { experts, blockWork } }: PlannedDevice,
  tokens: number,
  hitRateOf: PlannedCluster["hitRate"],
): BlockReads {
  const part = experts.count === 0 ? 1 : experts.slots / experts.count;
  const hitRate = tokens === 1 ? (hitRateOf?.(part) ?? part) : part;
  const wanted = (i: number) => experts.blockBytes[i]! * distinctPart(experts, tokensIn(blockWork[i]!, tokens));
  return { hitRate, blockBytes: experts.blockBytes.map((_, i) => wanted(i) * (1 - hitRate)) };
}

/** Part of a block's experts that some token of a pass gets. */
function distinctPart({ usedPart }: ExpertMemory, tokens: number): number {
  return 1 - (1 - usedPart) ** tokens;
}

/** A pass as the simulation takes it: each block's sums after it, and after the last one the next pass's start. */
function stepOf(cluster: PlannedCluster, tokens: number, network: NetworkPrediction): PassTiming {
  const devices = cluster.devices.map((device) => stepDevice(device, tokens, cluster.promptSpeedup));
  const { blockWork } = cluster.devices[0]!.memory;
  const last = blockWork.length - 1;
  const sumMs = sumTimes(cluster, tokens, network);
  const syncMs = blockWork.map(({ sums }, i) => sum(sums.map(sumMs)) + (i === last ? network.broadcastMs : 0));
  return { devices, syncMs };
}

/** Milliseconds of a sum: those of one of hidden states are known. */
function sumTimes(cluster: PlannedCluster, tokens: number, { collective, allReduceMs }: NetworkPrediction) {
  const { devices, link, collective: asked } = cluster;
  const measurements = alike(devices.length, link);
  return ({ length, exact }: BlockSum): number => {
    if (collective === "solo" || !exact) return allReduceMs;
    const bytes = wireBytes("f32", tokens * length);
    return predictMs(asked === "auto" ? chooseCollective(measurements, bytes).name : asked, measurements, bytes);
  };
}

/** Tokens of a pass that a block computes. Only the last token of a prompt has outputs. */
function tokensIn({ computes }: BlockWork, tokens: number): number {
  return computes === "outputs" ? 1 : tokens;
}

function stepDevice({ memory, rates }: PlannedDevice, tokens: number, promptSpeedup: number): TimedDevice {
  const { blockBytes, blockWork, window, experts } = memory;
  const computeMs = (i: number) => {
    const computed = tokensIn(blockWork[i]!, tokens);
    const passes = Math.max(1, computed / promptSpeedup);
    const once = (blockBytes[i]! / rates.computeBytesPerSecond) * 1000;
    // What every token gets of the experts is read for it; all that some token gets, at least once.
    const read = experts.blockBytes[i]! * Math.max(distinctPart(experts, computed), experts.usedPart * passes);
    const ofExperts = (read / rates.computeBytesPerSecond) * 1000;
    return once * passes + ofExperts;
  };
  return {
    blocks: blockBytes.map((bytes, i) => ({ bytes, pinned: window.pinned[i]!, computeMs: computeMs(i) })),
    ringBytes: window.windowBytes,
    diskBytesPerMs: rates.diskBytesPerSecond / 1000,
  };
}

/** Predicts one all-reduce of a pass's hidden states, and the broadcast of its inputs, which travel as f32. */
function predictNetwork(cluster: PlannedCluster, tokens: number): NetworkPrediction {
  const { devices, embeddingLength, inputValues, link, wire, collective } = cluster;
  const payloadBytes = wireBytes(wire, tokens * embeddingLength);
  if (devices.length === 1) return { collective: "solo", payloadBytes: 0, allReduceMs: 0, broadcastMs: 0 };
  const measurements = alike(devices.length, link);
  const name = collective === "auto" ? chooseCollective(measurements, payloadBytes).name : collective;
  const sentBytes = (devices.length - 1) * 4 * tokens * inputValues;
  const broadcastMs = link.latencyMs + (sentBytes / link.bytesPerSecond) * 1000;
  return { collective: name, payloadBytes, allReduceMs: predictMs(name, measurements, payloadBytes), broadcastMs };
}

function alike(size: number, { latencyMs, bytesPerSecond }: LinkFigures): LinkMeasurements {
  const table = (value: number) =>
    Array.from({ length: size }, (_, from) => Array.from({ length: size }, (_, to) => (from === to ? 0 : value)));
  return { size, latencyMs: table(latencyMs), bytesPerMs: table(bytesPerSecond / 1000) };
}

/** Longer than computing and sums by more than this fraction, a pass waits for something else. */
const waiting = 0.02;

/** What a pass's time comes from. Computing and sums follow on each other; reading goes on beside both. */
export function limitOf({ computeMs, diskMs, networkMs }: PassBounds, stepMs: number): Limit {
  const chainMs = computeMs + networkMs;
  if (diskMs > chainMs) return "disk";
  if (stepMs > chainMs * (1 + waiting)) return "window";
  return computeMs >= networkMs ? "compute" : "network";
}

/** How a prompt goes: in equal passes, as few as the batch allows. */
export interface PromptPrediction {
  readonly tokens: number;
  readonly steps: number;
  readonly totalMs: number;
  readonly step: StepPrediction;
}

/** Predicts how long a prompt of `tokens` tokens takes, in batches of at most `batch`. */
export function predictPrompt(cluster: PlannedCluster, tokens: number, batch: number): PromptPrediction {
  const steps = Math.ceil(tokens / batch);
  const step = predictStep(cluster, Math.ceil(tokens / steps));
  return { tokens, steps, totalMs: steps * step.stepMs, step };
}
