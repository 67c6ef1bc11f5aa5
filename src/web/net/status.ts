import type { ClusterStatus } from "../../cluster/status/schema.ts";
import { Store } from "../store.ts";
import { eventData } from "./events.ts";
import { request } from "./request.ts";

/** One point of the chart. */
export interface SpeedPoint {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly tokensPerSecond: number;
  readonly promptTokensPerSecond: number;
}

/** What the page knows of the cluster. */
export interface Watched {
  readonly status: ClusterStatus | undefined;
  /** Whether the server answers. */
  readonly connected: boolean;
  readonly history: readonly SpeedPoint[];
}

/** What the chart shows, in milliseconds. */
export const chartMs = 5 * 60_000;
/** The server tells something every second. One that does not is gone. */
const silenceMs = 4000;
const retryMs = 1000;

/** The cluster as it was told last. */
export const watched = new Store<Watched>({ status: undefined, connected: true, history: [] });

/** Follows the cluster for as long as the page can be seen. */
export async function followCluster(): Promise<never> {
  for (;;) {
    await visible();
    await follow().catch(() => {});
    if (!document.hidden) watched.update((before) => ({ ...before, connected: false }));
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

async function follow(): Promise<void> {
  const stop = new AbortController();
  const hide = () => document.hidden && stop.abort();
  document.addEventListener("visibilitychange", hide);
  let silence: ReturnType<typeof setTimeout> | undefined;
  try {
    const response = await request("/cluster/events", { signal: stop.signal });
    for await (const data of eventData(response)) {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), silenceMs);
      take(JSON.parse(data) as ClusterStatus);
    }
  } finally {
    clearTimeout(silence);
    document.removeEventListener("visibilitychange", hide);
  }
}

function take(status: ClusterStatus): void {
  const { at, speed } = status;
  const { tokensPerSecond, promptTokensPerSecond } = speed;
  watched.update(({ history }) => {
    const kept = history.filter((point) => point.at > at - chartMs && point.at < at);
    return { status, connected: true, history: [...kept, { at, tokensPerSecond, promptTokensPerSecond }] };
  });
}

function visible(): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true });
  });
}
