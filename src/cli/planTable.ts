import { threadsText } from "../cluster/threads.ts";
import type { PlanFacts } from "../library/planning/facts.ts";
import type { Source } from "../library/planning/rates.ts";
import { hasExperts, limitOfDevice } from "../library/planning/report.ts";
import type { PlannedCluster, StepPrediction } from "../plan/latency.ts";
import { printable } from "../weights/gguf/printable.ts";
import { formatBytes } from "./format.ts";

/** The plan as people read it. */
export function planText(facts: PlanFacts): string {
  return [
    columns(overview(facts)),
    `memory\n${table(
      memoryHead(facts),
      facts.planned.ranks.map((_, rank) => memoryRow(facts, rank)),
    )}`,
    `one token\n${table(
      timeHead,
      facts.planned.ranks.map((_, rank) => timeRow(facts, rank)),
    )}`,
    columns(summary(facts)),
  ].join("\n\n");
}

function overview({ model, planned, rates, cluster, decode }: PlanFacts): [string, string][] {
  const { context, batch, kvType } = planned.engine;
  const { compute, disk, link } = rates.sources;
  const several = rates.devices.length > 1;
  const each = (rate: (device: (typeof rates.devices)[number]) => number) =>
    [...new Set(rates.devices.map((device) => `${formatBytes(rate(device))}/s`))].join(", ");
  const { collective, payloadBytes, allReduceMs } = decode.network;
  const sums = `${collective} of ${formatBytes(payloadBytes)} (${cluster.wire}) takes ${duration(allReduceMs)}`;
  const links = `${duration(rates.link.latencyMs)}, ${bitRate(rates.link.bytesPerSecond)} (${link}); ${sums}`;
  return [
    ["model", `${printable(model.name ?? model.path, { limit: 60 })}, ${formatBytes(model.weight_bytes)} of weights`],
    ["engine", `context ${context}, batch ${batch}, KV cache ${kvType}`],
    ...(rates.threads ? [["threads", threadsText(rates.threads)] as [string, string]] : []),
    ["compute", `${each((device) => device.computeBytesPerSecond)} of weights (${from(compute, several)})`],
    ["disk", `${each((device) => device.diskBytesPerSecond)} (${from(disk, several)})`],
    ...(several ? [["links", links] as [string, string]] : []),
    ...(planned.dealt ? [["experts", dealing(planned.dealt)] as [string, string]] : []),
  ];
}

/** Why experts are dealt one by one. */
function dealing({ part, columns }: NonNullable<PlanFacts["planned"]["dealt"]>): string {
  const whole = "one expert cannot be divided";
  const parts = `one expert has only ${Math.ceil(columns / part)} parts (of ${part} columns)`;
  return `${columns <= part ? whole : parts}: each device gets other parts of other experts, as much as its share in all`;
}

function from(source: Source, several: boolean): string {
  return source === "measured" && several ? "measured here, assumed elsewhere" : source;
}

function memoryHead(facts: PlanFacts): string[] {
  const experts = hasExperts(facts.planned) ? ["experts"] : [];
  const weights = ["device", "heads", "ffn", "weights", "pinned", "window", ...experts];
  return [...weights, "KV", "compute", "links", "runtime", "total", "cap"];
}

function memoryRow(facts: PlanFacts, rank: number): string[] {
  const { share, memory } = facts.planned.ranks[rank]!;
  const { window, experts, capBytes, leastCapBytes, fits } = memory;
  const cap = capBytes === undefined ? "none" : formatBytes(capBytes);
  return [
    ...[String(rank), String(share.kvHeads.count), String(share.ffn.count || share.expertFfn.count)],
    ...[formatBytes(memory.weightBytes), formatBytes(window.pinnedBytes), formatBytes(window.windowBytes)],
    ...(hasExperts(facts.planned) ? [`${formatBytes(experts.poolBytes)}, ${experts.slots} of ${experts.count}`] : []),
    ...[memory.kvBytes, memory.computeBytes].map(formatBytes),
    ...[memory.linkBytes, memory.runtimeBytes, memory.totalBytes].map(formatBytes),
    fits ? cap : `${cap}: too small, at least ${formatCap(leastCapBytes)}`,
  ];
}

const timeHead = ["device", "compute", "from disk", "disk", "network", "waits for disk", "for others", "limit"];

function timeRow({ planned, decode }: PlanFacts, rank: number): string[] {
  const times = decode.devices[rank]!;
  const { streamedBytes } = planned.ranks[rank]!.memory.window;
  return [
    ...[String(rank), duration(times.computeMs), formatBytes(streamedBytes), duration(times.diskMs)],
    ...[decode.networkMs, times.diskWaitMs, times.peerWaitMs].map(duration),
    limitOfDevice(times, decode.networkMs),
  ];
}

function summary({ decode, prompt, fits, cluster }: PlanFacts): [string, string][] {
  const rate = (perSecond: number) => `${Number(perSecond.toPrecision(3))} tokens/s`;
  const steps = prompt.steps === 1 ? "1 step" : `${prompt.steps} steps`;
  return [
    ["a token", `${duration(decode.stepMs)} (${rate(1000 / decode.stepMs)}): ${parts(decode)}`],
    ["its limit", limits[decode.limit]],
    ["streaming", streaming(decode, cluster)],
    [
      "a prompt",
      `of ${prompt.tokens} tokens ${duration(prompt.totalMs)} (${rate((prompt.tokens * 1000) / prompt.totalMs)}) ` +
        `in ${steps}, each: ${parts(prompt.step)}`,
    ],
    ...(fits ? [] : [["fits", "no; all of this is with the least caps that would do"] as [string, string]]),
  ];
}

function parts({ computeMs, diskMs, networkMs }: StepPrediction): string {
  return `compute ${duration(computeMs)}, disk ${duration(diskMs)}, network ${duration(networkMs)}`;
}

const limits = {
  compute: "computing: faster or more devices help",
  disk: "the disk: more memory, faster disks or more devices help",
  network: "the network: lower latency helps, or fewer devices",
  window: "the window: the disk is fast enough on average, but too little of it is read ahead; more memory helps",
} as const;

function streaming(
  { diskMs, expertMs, experts, steady, tightlySteady }: StepPrediction,
  { hitRate }: PlannedCluster,
): string {
  if (diskMs === 0) return "none: all weights stay in memory";
  if (expertMs > 0) {
    const rates = experts.map((device) => `${(100 * device.hitRate).toFixed(0)} %`);
    const whence = hitRate === undefined ? "if all are equally likely" : "as recorded";
    const memory = `${[...new Set(rates)].join(", ")} of those wanted are in memory, ${whence}`;
    return `experts are read for ${duration(expertMs)} in each token, mostly while it is computed: ${memory}`;
  }
  if (!steady) return "devices wait for their disks (the loose steady condition does not hold)";
  return `no device waits for its disk (the ${tightlySteady ? "tight" : "loose"} steady condition holds)`;
}

/** Up to three digits, such as `2.43 s`, `12.7 ms` or `0 ms`. */
function duration(ms: number): string {
  const rounded = Number(ms.toPrecision(3));
  if (rounded < 1000) return `${ms < 0.001 ? 0 : rounded} ms`;
  return rounded < 1e6 ? `${Number((ms / 1000).toPrecision(3))} s` : `${Math.round(ms / 1000)} s`;
}

function bitRate(bytesPerSecond: number): string {
  return `${Number(((bytesPerSecond * 8) / 1e6).toPrecision(3))} Mbit/s`;
}

/** Rounded up, so that a cap of what is shown is enough. */
export function formatCap(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}

/** Label and text in two columns. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}  ${text}`).join("\n");
}

/** Columns flush right, but for the last one. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const last = head.length - 1;
  const line = (row: readonly string[]) =>
    `  ${row.map((cell, i) => (i === last ? cell : cell.padStart(widths[i]!))).join("  ")}`;
  return [head, ...rows].map(line).join("\n");
}
