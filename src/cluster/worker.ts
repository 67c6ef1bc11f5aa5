import { hostname } from "node:os";
import { Engine } from "../engine/engine.ts";
import { kvCacheBytes } from "../engine/kvCache.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { deviceFeatures } from "../native/backend.ts";
import { cpuDevice, openGgml } from "../native/ggml.ts";
import { traceClock } from "../trace/events.ts";
import { type CoordinatorChannel, type JoinState, joinCoordinator } from "./control/client.ts";
import type { CoordinatorMessage, WorkerHello } from "./control/messages.ts";
import { planWorkerEngine } from "./engineOptions.ts";
import { Mailbox, type Messages } from "./mailbox.ts";
import { type RankPlan, rankOf, rankPlanSchema } from "./rankPlan.ts";
import { obtainSlice } from "./sliceTransfer.ts";
import { defaultThreads } from "./threads.ts";
import type { JoinToken } from "./token.ts";
import { sendTrace } from "./traceTransfer.ts";
import { version } from "./version.ts";

/** How a device takes part in a cluster. */
export interface WorkerOptions {
  readonly host: string;
  readonly port: number;
  readonly token: JoinToken;
  /** What to call this device; its host name if absent. */
  readonly name?: string | undefined;
  readonly threads?: number | undefined;
  readonly cacheDir?: string | undefined;
  readonly signal: AbortSignal;
  readonly onState?: (state: JoinState | WorkerState) => void;
}

/** What a worker does once it has its place. */
export type WorkerState =
  | { readonly state: "receiving"; readonly bytes: number; readonly total: number }
  | { readonly state: "loading" }
  | { readonly state: "ready" };

/** An engine, and the plan it was loaded for. */
interface Loaded {
  readonly plan: string;
  readonly engine: Engine;
}

/**
 * Takes part in a cluster until `signal` says otherwise: joins the coordinator, obtains the slice it is to have, loads
 * it and takes the coordinator's steps. Joins again where the coordinator is lost, and keeps what it has loaded.
 * Throws `TOKEN_REJECTED`, `VERSION_MISMATCH`, `ABORTED`, and what makes this device unable to have its share.
 */
export async function work(options: WorkerOptions): Promise<never> {
  const { host, port, token, signal, onState } = options;
  const hello = () => introduction(options);
  let loaded: Loaded | undefined;
  try {
    for await (const { channel, localAddress } of joinCoordinator({
      host,
      port,
      token,
      version,
      hello,
      signal,
      onState: (state) => onState?.(state),
    })) {
      try {
        loaded = await load(channel, options, loaded);
        onState?.({ state: "ready" });
        await follow(channel, loaded.engine, localAddress);
      } catch (error) {
        if (!channel.isOpen) continue;
        await report(channel, error);
        throw error;
      }
    }
    throw new Error("unreachable: joining ends by an error");
  } finally {
    await loaded?.engine[Symbol.asyncDispose]();
  }
}

/** Obtains and loads what the plan says; what is loaded already stays where the plan is the same. */
async function load(channel: CoordinatorChannel, options: WorkerOptions, before: Loaded | undefined): Promise<Loaded> {
  const plan = await receivePlan(channel);
  const key = JSON.stringify(plan);
  if (before?.plan === key) {
    await channel.send({ type: "ready", phase: "loaded" });
    return before;
  }
  await before?.engine[Symbol.asyncDispose]();
  const description = await rankOf(plan);
  const onProgress = (bytes: number, total: number) => options.onState?.({ state: "receiving", bytes, total });
  const slice = await obtainSlice(channel, { description, model: plan.model, cacheDir: options.cacheDir, onProgress });
  options.onState?.({ state: "loading" });
  const engine = await Engine.start({
    description,
    options: planWorkerEngine(description, plan.engine, options.threads),
    origin: { kind: "slice", ...slice },
    signal: options.signal,
  });
  await channel.send({ type: "ready", phase: "loaded" });
  return { plan: key, engine };
}

async function receivePlan(channel: CoordinatorChannel): Promise<RankPlan> {
  const { value: message } = await channel.next();
  if (message?.type === "plan") {
    const { rank, shares, engine, description: model, slice } = message;
    const parsed = rankPlanSchema.safeParse({ rank, shares, engine, model });
    if (parsed.success && parsed.data.model.hash === slice.model) return parsed.data;
    if (parsed.success) throw violation("its plan is for one model, and its slice of another (the hashes differ)");
  }
  throw violation("its plan is not valid");
}

function violation(reason: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "the coordinator", reason });
}

/** Takes the coordinator's steps; when links are lost, offers new ones. Ends when the channel does. */
async function follow(channel: CoordinatorChannel, engine: Engine, host: string): Promise<void> {
  const messages = channel as unknown as Messages<CoordinatorMessage>;
  const mailbox = new Mailbox(messages, () => new StelliumError("ABORTED", { reason: "the coordinator stopped" }));
  const ended = channel.ended.then(() => engine.cutLinks());
  answerRequests(channel, mailbox, engine);
  while (channel.isOpen) {
    await channel.send({ type: "ready", phase: "listening", dataPort: await engine.listen(host) });
    const { type: _, ...setup } = await mailbox.take("links");
    try {
      await engine.link(setup);
      await channel.send({ type: "ready", phase: "linked" });
      await engine.follow();
    } catch (error) {
      if (!(error instanceof StelliumError && error.code === "LINK_LOST")) throw error;
      log("info", error.message);
    }
  }
  await ended;
}

/** Tells figures, the time and what was recorded, as often as it is asked to. */
function answerRequests(channel: CoordinatorChannel, mailbox: Mailbox<CoordinatorMessage>, engine: Engine): void {
  const answer = async <T extends CoordinatorMessage["type"]>(
    type: T,
    by: (request: Extract<CoordinatorMessage, { type: T }>) => Promise<void>,
  ) => {
    for (;;) await by(await mailbox.take(type));
  };
  const answers = [
    answer("stats-request", () => channel.send({ type: "stats", figures: figuresOf(engine, channel) })),
    answer("clock-request", ({ sequence }) => channel.send({ type: "clock", sequence, now: traceClock() })),
    answer("trace-request", () => sendTrace(channel, engine.trace)),
  ];
  for (const ended of answers) ended.catch(() => {});
}

function figuresOf(engine: Engine, { traffic }: CoordinatorChannel): Record<string, number> {
  const { threads, kvType, context, slots } = engine.options;
  const kvBytes = kvCacheBytes(engine.description.hyperparameters, kvType, context, slots);
  return {
    ...engine.statistics,
    threads,
    kvBytes,
    controlBytesSent: traffic.sent,
    controlBytesReceived: traffic.received,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function report(channel: CoordinatorChannel, error: unknown): Promise<void> {
  const code = error instanceof StelliumError ? error.code : "UNEXPECTED";
  await channel.send({ type: "failed", code, message: reasonOf(error).slice(0, 2048) }).catch(() => {});
}

function introduction({ name, threads }: WorkerOptions): WorkerHello {
  const ggml = openGgml();
  return {
    type: "hello",
    name: name ?? hostname(),
    host: hostname(),
    threads: threads ?? defaultThreads(Infinity),
    memoryCap: null,
    features: deviceFeatures(cpuDevice(ggml)),
    ggml: ggml.version(),
    cache: [],
  };
}
