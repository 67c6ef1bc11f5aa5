import { hostname } from "node:os";
import type { RankReport } from "../cluster/team.ts";
import { threadFigures } from "../cluster/threads.ts";
import type { RankShare } from "../model/split.ts";
import { cpuVariantName } from "../native/libraries.ts";
import type { TextModel } from "../serving/textModel.ts";

/** Holdings and work of each device, by rank, as `--json` shows them. */
export async function deviceReports(textModel: TextModel) {
  const { coordinator } = textModel;
  const { engine, memory, cap, description, threads } = coordinator;
  const { sent: controlBytesSent, received: controlBytesReceived } = coordinator.controlTraffic;
  const traffic = { controlBytesSent, controlBytesReceived };
  const figures = { ...engine.statistics, ...traffic, ...threadFigures(threads), kvBytes: memory.kvBytes };
  const own = {
    rank: 0,
    host: hostname(),
    cpuVariant: cpuVariantName() ?? null,
    share: description.share,
    figures: { ...figures, memoryCapBytes: cap.bytes, peakRssBytes: peakRssBytes() },
  };
  return [own, ...(await coordinator.workers())].map(deviceReport);
}

function deviceReport({ rank, host, cpuVariant, share, figures }: RankReport) {
  const figure = (name: string) => figures[name] ?? 0;
  return {
    rank,
    host,
    cpu_variant: cpuVariant,
    threads: figure("threads"),
    cores: figure("cores"),
    cpu_quota: figure("cpuQuota") || null,
    shares: shareReport(share),
    peak_rss_bytes: figure("peakRssBytes"),
    memory_cap_bytes: figure("memoryCapBytes"),
    weight_bytes: figure("weightBytes"),
    pinned_bytes: figure("pinnedBytes"),
    window_bytes: figure("windowBytes"),
    window_filled: figure("windowFilled"),
    kv_bytes: figure("kvBytes"),
    disk_bytes_read: figure("diskBytes"),
    ...(figure("expertSlots") > 0 && {
      expert_slots: figure("expertSlots"),
      expert_hits: figure("expertHits"),
      expert_misses: figure("expertMisses"),
      experts_read_ahead: figure("expertsReadAhead"),
      expert_bytes_read: figure("expertBytes"),
      expert_bytes_per_token: figure("decodedTokens") && figure("decodedExpertBytes") / figure("decodedTokens"),
    }),
    compute_ms: figure("computeMs"),
    disk_wait_ms: figure("diskWaitMs"),
    collective_ms: figure("wireMs") + figure("waitMs"),
    wait_ms: figure("waitMs"),
    cipher_ms: figure("cipherMs"),
    collective_count: figure("collectives"),
    bytes_sent: figure("bytesSent"),
    bytes_received: figure("bytesReceived"),
    opening_bytes_sent: figure("openingBytes"),
    control_bytes_sent: figure("controlBytesSent"),
    control_bytes_received: figure("controlBytesReceived"),
  };
}

/** KV heads, feed-forward columns, those of each expert, and rows of the output head. */
function shareReport({ kvHeads, ffn, expertFfn, vocabulary }: RankShare) {
  const experts = expertFfn.count > 0 && { experts: expertFfn.count };
  return { attention: kvHeads.count, ffn: ffn.count, ...experts, head: vocabulary.count };
}

/** The most memory this process has had in RAM. Node counts in kilobytes on every system. */
export function peakRssBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
