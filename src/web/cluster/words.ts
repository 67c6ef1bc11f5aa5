import type { ClusterStatus, DeviceStatus, LimitName } from "../../cluster/status/schema.ts";
import type { Watched } from "../net/status.ts";
import { countText, figure } from "../words.ts";

/** How something is: calm, at work, waiting for somebody, wrong. */
export type Tone = "calm" | "busy" | "waiting" | "wrong";

/** The cluster in a few words. */
export function glance({ status, connected }: Watched): { readonly tone: Tone; readonly text: string } {
  if (!connected) return { tone: "wrong", text: "no answer" };
  if (status === undefined) return { tone: "waiting", text: "connecting" };
  if (status.state === "mending") return { tone: "wrong", text: "a device is missing" };
  if (status.state !== "ready") return { tone: "waiting", text: "loading" };
  const devices = status.devices.length === 1 ? "1 device" : `${status.devices.length} devices`;
  if (!isBusy(status)) return { tone: "calm", text: `${devices}, ready` };
  return { tone: "busy", text: `${figure(status.speed.tokensPerSecond)} tokens/s` };
}

/** Whether anything is being computed. */
export function isBusy({ slots }: ClusterStatus): boolean {
  return slots.some(({ state }) => state !== "idle");
}

/** What the cluster does, in one sentence. */
export function headline(status: ClusterStatus): string {
  const count = countText(status.devices.length, "device", "devices");
  const one = status.devices.length === 1;
  if (status.state === "starting") return "The model is being read.";
  if (status.state === "waiting") return waitingLine(status);
  if (status.state === "mending") return mendingLine(status);
  if (!isBusy(status)) return `${count}, ready.`;
  const { tokensPerSecond, promptTokensPerSecond } = status.speed;
  if (tokensPerSecond < 0.005 && promptTokensPerSecond < 0.005) return `${count} ${one ? "is" : "are"} at work.`;
  if (tokensPerSecond < 0.005) return `${count} ${one ? "reads" : "read"} a prompt.`;
  return `${count} ${one ? "writes" : "write"} ${figure(tokensPerSecond)} tokens a second.`;
}

function waitingLine({ join, devices }: ClusterStatus): string {
  const missing = join === null ? 0 : join.wanted - join.joined;
  if (missing > 0) return `${countText(missing, "device", "devices")} to come.`;
  return devices.some(({ state }) => state === "receiving") ? "The model is being shared out." : "The model loads.";
}

function mendingLine({ devices }: ClusterStatus): string {
  const lost = devices.filter(({ state }) => state === "lost" || state === "awaited");
  if (lost.length === 0) return "A device is taking its place.";
  return lost.length === 1 ? `${lost[0]!.name ?? "A device"} is missing.` : `${lost.length} devices are missing.`;
}

/** What holds the cluster back, in one sentence; empty where there is nothing to say. */
export function diagnosis({ bottleneck, devices, state }: ClusterStatus): string {
  if (state === "mending") return "Requests wait until every place is taken again.";
  if (bottleneck === null) return "";
  const { rank, limit } = bottleneck;
  const what = causes[limit];
  if (what === undefined) return "";
  if (devices.length === 1) return `What limits it is ${what}.`;
  if (limit === "network") return "What holds them back is the network.";
  return `The others wait for ${devices[rank]?.name ?? `rank ${rank}`}, which ${verbs[limit]}.`;
}

const causes: Partial<Record<LimitName, string>> = {
  compute: "how fast it computes",
  disk: "how fast weights come from its disk",
  network: "the network",
};

const verbs: Partial<Record<LimitName, string>> = {
  compute: "computes longest",
  disk: "has to read weights from its disk",
};

/** What a device spends most of a step on. */
export function limitText({ limit, state }: DeviceStatus): string {
  return state === "ready" ? limitTexts[limit] : stateTexts[state];
}

const limitTexts: Record<LimitName, string> = {
  compute: "limited by computing",
  disk: "limited by its disk",
  network: "limited by the network",
  waiting: "waits for a slower device",
  idle: "idle",
};

const stateTexts: Record<DeviceStatus["state"], string> = {
  awaited: "nobody has joined yet",
  receiving: "receives its part",
  loading: "loads its part",
  ready: "ready",
  lost: "lost",
};
