import { hostname } from "node:os";
import { blockWeightBytes, expertCount } from "../../model/expertWeights.ts";
import { printable } from "../../weights/gguf/printable.ts";
import { joinCommand } from "../clusterOptions.ts";
import type { Team } from "../team.ts";
import type { PlannedTeam, StatusBoard } from "./board.ts";
import { type CountedTimes, type Limits, limitsOf } from "./limits.ts";
import type { RankSamples } from "./samples.ts";
import type { ClusterStatus, DeviceState, DeviceStatus, NetworkStatus } from "./schema.ts";
import { timelineOf } from "./timeline.ts";

/** What the part that has the requests tells. */
export interface ServedWork {
  readonly slots: ClusterStatus["slots"];
  readonly queued: number;
}

/** What a snapshot is made of. */
export interface SnapshotParts {
  readonly version: string;
  readonly board: StatusBoard;
  readonly samples: ReadonlyMap<number, RankSamples>;
  readonly speed: ClusterStatus["speed"];
  readonly work: ServedWork | undefined;
}

/** All there is to see now. The join line is in it, with the token: see `withoutToken`. */
export function snapshot({ version, board, samples, speed, work }: SnapshotParts): ClusterStatus {
  const { planned, running } = board;
  const busy = work?.slots.some(({ state }) => state !== "idle") ?? false;
  const limits = limitsOf(countedTimes(samples));
  const devices = planned === undefined ? [] : deviceStatuses(planned, board, samples, limits, busy);
  return {
    version,
    at: Date.now(),
    state: stateOf(board, devices),
    model: planned === undefined ? null : modelOf(planned, running?.engine.options.context ?? null),
    devices,
    speed,
    slots: work?.slots ?? [],
    queued: work?.queued ?? 0,
    bottleneck: busy ? limits.bottleneck : null,
    network: networkOf(board),
    join: planned?.team === undefined ? null : joinOf(planned.team),
    events: [...board.events],
  };
}

/** The same for who may use the cluster, but not add devices to it. */
export function withoutToken(status: ClusterStatus): ClusterStatus {
  return { ...status, join: status.join && { ...status.join, command: null } };
}

function stateOf({ planned, running }: StatusBoard, devices: readonly DeviceStatus[]): ClusterStatus["state"] {
  if (planned === undefined) return "starting";
  if (running === undefined) return "waiting";
  return devices.every(({ state }) => state === "ready") ? "ready" : "mending";
}

function modelOf({ model, description }: PlannedTeam, context: number | null): ClusterStatus["model"] {
  const { blockCount, headCount, headCountKv, feedForwardLength } = description.hyperparameters;
  return {
    name: printable(String(model.metadata.get("general.name") ?? ""), { limit: 256 }),
    architecture: String(model.metadata.get("general.architecture")),
    layers: blockCount,
    heads: headCount,
    kvHeads: headCountKv,
    ffnColumns: feedForwardLength,
    weightBytes: description.blocks.reduce((sum, block) => sum + blockWeightBytes(block), 0),
    context,
  };
}

function countedTimes(samples: ReadonlyMap<number, RankSamples>): CountedTimes[] {
  return [...samples].flatMap(([rank, { times }]) => (times === undefined ? [] : [{ rank, ...times }]));
}

function deviceStatuses(
  planned: PlannedTeam,
  board: StatusBoard,
  samples: ReadonlyMap<number, RankSamples>,
  limits: Limits,
  busy: boolean,
): DeviceStatus[] {
  const { shares } = board;
  const experts = planned.description.blocks.reduce((sum, block) => sum + expertCount(block), 0);
  return shares.map((share, rank) => {
    const sample = samples.get(rank);
    const figures = sample?.figures ?? {};
    const limit = limits.ranks.get(rank);
    const timeline = sample && timelineOf(sample.profile, shares.length);
    const whose = rank === 0 ? ownIdentity(board) : workerIdentity(planned.team!, rank);
    return {
      rank,
      ...whose,
      threads: figures["threads"] ?? whose.threads,
      share,
      memory: memoryOf(figures),
      ...(sample && (figures["expertSlots"] ?? 0) > 0 && { experts: expertsOf(sample, experts) }),
      limit: busy && limit !== undefined ? limit.limit : "idle",
      ...(limit && { step: limit.step }),
      bytesSentPerSecond: sample?.rates.sent ?? 0,
      bytesReceivedPerSecond: sample?.rates.received ?? 0,
      diskBytesPerSecond: sample?.rates.disk ?? 0,
      ...(timeline && { timeline }),
    };
  });
}

type Identity = Pick<DeviceStatus, "name" | "host" | "state" | "threads" | "transfer">;

function ownIdentity({ running }: StatusBoard): Identity {
  const state: DeviceState = running === undefined ? "loading" : "ready";
  return { name: hostname(), host: hostname(), state, threads: running?.engine.options.threads ?? null };
}

function workerIdentity(team: Team, rank: number): Identity {
  const member = team.members[rank];
  if (member === undefined) return { name: null, host: null, state: "awaited", threads: null };
  const { name, state, transfer, connection } = member;
  const { host, threads } = connection.hello;
  return { name, host, state, threads, ...(transfer && { transfer }) };
}

const memoryFigures = {
  capBytes: "memoryCapBytes",
  rssBytes: "rssBytes",
  peakRssBytes: "peakRssBytes",
  windowBytes: "windowBytes",
  kvBytes: "kvBytes",
} as const;

/** Where nothing is streamed, all weights are pinned. */
function memoryOf(figures: Readonly<Record<string, number>>): DeviceStatus["memory"] {
  const known = Object.entries(memoryFigures).flatMap(([name, figure]) => {
    const bytes = figures[figure];
    return bytes === undefined ? [] : [[name, bytes] as const];
  });
  const pinned = figures["pinnedBytes"] ?? figures["weightBytes"];
  return { ...Object.fromEntries(known), ...(pinned !== undefined && { pinnedBytes: pinned }) };
}

function expertsOf({ experts, figures = {} }: RankSamples, count: number): NonNullable<DeviceStatus["experts"]> {
  return { count, slots: figures["expertSlots"] ?? 0, ...experts };
}

function networkOf({ planned, running }: StatusBoard): NetworkStatus | null {
  if (planned?.team === undefined) return null;
  const { wire, cipher, collective: asked } = planned.team.style;
  const found = running?.engine.network;
  if (found === undefined) return { wire, cipher, asked, collective: asked };
  const { measurements, token } = found;
  const { name, why, payloadBytes, predictedMs, alternatives } = token;
  const predictions = [{ name, predictedMs }, ...alternatives].map(({ name, predictedMs: ms }) => ({ name, ms }));
  const megabitsPerSecond = measurements.bytesPerMs.map((row) => row.map((rate) => Math.round((rate * 8) / 1000)));
  const { latencyMs } = measurements;
  const tables = { latencyMs: latencyMs.map((row) => [...row]), megabitsPerSecond };
  return { wire, cipher, asked, collective: name, why, payloadBytes, predictions, ...tables };
}

function joinOf({ entrance }: Team): ClusterStatus["join"] {
  const { address, joined, wanted, local } = entrance;
  return { joined, wanted, local, address, command: joinCommand(entrance) };
}
