import type { ThreadChoice } from "../../cluster/threads.ts";
import type { PromptPrediction, StepPrediction } from "../../plan/latency.ts";
import type { PlanFacts } from "./facts.ts";
import type { PlannedModel } from "./plannedModel.ts";

/** The plan as `--json` gives it. Times are in milliseconds per token, or per step of a prompt. */
export function planReport(facts: PlanFacts) {
  const { model, planned, rates, cluster, decode, prompt } = facts;
  return {
    model,
    context: planned.engine.context,
    batch: planned.engine.batch,
    kv: planned.engine.kvType,
    wire: cluster.wire,
    fits: facts.fits,
    sources: { ...rates.sources, ...(hasExperts(planned) && { experts: cluster.hitRate ? "given" : "assumed" }) },
    threads: threadsReport(rates.threads),
    ...(hasExperts(planned) && { expert_split: planned.dealt ? "dealt" : "columns" }),
    link: { latency_ms: rates.link.latencyMs, bytes_per_second: rates.link.bytesPerSecond },
    decode: { ...stepReport(decode), tokens_per_second: 1000 / decode.stepMs },
    prompt: promptReport(prompt),
    devices: planned.ranks.map((_, rank) => deviceReport(facts, rank)),
  };
}

/** True if a device has a share of experts. */
export function hasExperts({ ranks }: PlannedModel): boolean {
  return ranks.some(({ memory }) => memory.experts.count > 0);
}

function stepReport(step: StepPrediction) {
  const { collective, payloadBytes, allReduceMs, broadcastMs } = step.network;
  return {
    ms: step.stepMs,
    limit: step.limit,
    compute_ms: step.computeMs,
    disk_ms: step.diskMs,
    expert_ms: step.expertMs,
    network_ms: step.networkMs,
    least_ms: step.leastMs,
    steady: step.steady,
    tightly_steady: step.tightlySteady,
    network: {
      collective,
      payload_bytes: payloadBytes,
      all_reduce_ms: allReduceMs,
      broadcast_ms: broadcastMs,
    },
  };
}

/** Compute threads of this device; null if nothing was measured on it. */
function threadsReport(choice: ThreadChoice | undefined) {
  if (choice === undefined) return null;
  const { threads, from, cores, quota } = choice;
  return { count: threads, from, cores, cpu_quota: quota ?? null };
}

function promptReport({ tokens, steps, totalMs, step }: PromptPrediction) {
  return { tokens, steps, total_ms: totalMs, tokens_per_second: (tokens * 1000) / totalMs, step: stepReport(step) };
}

function deviceReport({ planned, rates, decode }: PlanFacts, rank: number) {
  const { share, memory } = planned.ranks[rank]!;
  const times = decode.devices[rank]!;
  return {
    rank,
    shares: {
      ...{ attention: share.kvHeads.count, ffn: share.ffn.count },
      ...(share.expertFfn.count > 0 && { experts: share.expertFfn.count }),
    },
    memory_cap_bytes: memory.capBytes ?? null,
    least_cap_bytes: memory.leastCapBytes,
    fits: memory.fits,
    weight_bytes: memory.weightBytes,
    pinned_bytes: memory.window.pinnedBytes,
    window_bytes: memory.window.windowBytes,
    ...(memory.experts.count > 0 && {
      experts: memory.experts.count,
      expert_slots: memory.experts.slots,
      expert_bytes: memory.experts.poolBytes,
      expert_hit_rate: decode.experts[rank]!.hitRate,
      expert_bytes_per_token: decode.experts[rank]!.bytes,
    }),
    kv_bytes: memory.kvBytes,
    compute_bytes: memory.computeBytes,
    link_bytes: memory.linkBytes,
    runtime_bytes: memory.runtimeBytes,
    total_bytes: memory.totalBytes,
    blocks: memory.blockBytes.filter((bytes) => bytes > 0).length,
    streamed_blocks: memory.window.pinned.filter((pinned) => !pinned).length,
    disk_bytes_per_token: memory.window.streamedBytes,
    compute_bytes_per_second: rates.devices[rank]!.computeBytesPerSecond,
    disk_bytes_per_second: rates.devices[rank]!.diskBytesPerSecond,
    compute_ms: times.computeMs,
    disk_ms: times.diskMs,
    network_ms: decode.networkMs,
    disk_wait_ms: times.diskWaitMs,
    peer_wait_ms: times.peerWaitMs,
    limit: limitOfDevice(times, decode.networkMs),
  };
}

/** What takes most of a device's time. */
export function limitOfDevice(times: { computeMs: number; diskMs: number }, networkMs: number) {
  const { computeMs, diskMs } = times;
  if (diskMs > computeMs + networkMs) return "disk";
  return computeMs >= networkMs ? "compute" : "network";
}
