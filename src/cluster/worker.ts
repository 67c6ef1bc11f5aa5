import { isIP } from "node:net";
import { hostname } from "node:os";
import { Engine } from "../engine/engine.ts";
import type { LinkSetup } from "../engine/links/rankLinks.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { deviceFeatures } from "../native/backend.ts";
import { cpuDevice, openGgml } from "../native/ggml.ts";
import { cpuVariantName } from "../native/libraries.ts";
import { returnMemory } from "../native/memory.ts";
import { type DeviceMemory, streamsWeights } from "../plan/deviceMemory.ts";
import { weightBytes } from "../plan/memory.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import { traceClock } from "../trace/events.ts";
import type { Hold } from "../weights/hold.ts";
import { closeCache } from "../weights/sliceDirectory.ts";
import { sliceNames } from "../weights/sliceList.ts";
import { removeAbandonedFolders } from "../weights/temporaryFolder.ts";
import { sliceMap } from "../weights/window/sliceMap.ts";
import type { Address } from "./control/address.ts";
import { type CoordinatorChannel, type JoinState, joinCoordinator } from "./control/client.ts";
import { type CoordinatorMessage, mostSliceNames, type Welcome, type WorkerHello } from "./control/messages.ts";
import { firstIssue } from "./control/sides.ts";
import { deviceMemory, type RankDemand } from "./deviceMemory.ts";
import { type DeviceSlice, deviceSlice, repaired, SliceStorage } from "./deviceSlice.ts";
import { planWorkerEngine } from "./engineOptions.ts";
import type { Membership } from "./identity/membership.ts";
import { Mailbox, type MessageStream } from "./mailbox.ts";
import { demandFit, type MemoryCap, mayBeCached, memoryCap } from "./memoryCap.ts";
import { placementOf } from "./ownWeights.ts";
import { type RankPlan, rankOf, rankPlanSchema } from "./rankPlan.ts";
import { receivedBlocks } from "./sliceTransfer.ts";
import { chooseThreads, type ThreadChoice, threadFigures, threadsWarning } from "./threads.ts";
import { ThrottleWatch } from "./throttleWatch.ts";
import { sendTrace } from "./traceTransfer.ts";
import { version } from "./version.ts";

/** How a device takes part in a cluster. */
export interface WorkerOptions {
  readonly host: string;
  readonly port: number;
  /** How this device proves who it is. */
  readonly membership: Membership;
  /** Finds the coordinator again, where it may listen elsewhere after a restart. */
  readonly relocate?: ((signal: AbortSignal | undefined) => Promise<Address>) | undefined;
  /** What to call this device; its host name if absent. */
  readonly name?: string | undefined;
  readonly threads?: number | undefined;
  /** Whether the coordinator's process started this one. It reports for both what this system allows. */
  readonly local?: boolean | undefined;
  readonly cacheDir?: string | undefined;
  /** Bytes that the cache may take; see `CacheLimit`. */
  readonly cacheSize?: number | undefined;
  /** Bytes that this process may take in all, within the control group's limit; what is free, less a margin, if absent. */
  readonly memory?: number | undefined;
  /** How many blocks the window holds where weights are streamed; see `planWindow`. */
  readonly window?: number | undefined;
  readonly signal: AbortSignal;
  readonly onState?: (state: JoinState | WorkerState) => void;
}

/** What a worker does once it has its place. */
export type WorkerState =
  /** It has no cache directory that it can write, for the reason in `error`: its slice is gone when its process ends. */
  | { readonly state: "uncached"; readonly error: StelliumError }
  | {
      readonly state: "planned";
      readonly memory: DeviceMemory;
      readonly cap: MemoryCap;
      readonly threads: ThreadChoice;
    }
  | { readonly state: "receiving"; readonly bytes: number; readonly total: number }
  | { readonly state: "loading" }
  | { readonly state: "ready" };

/** State that a worker keeps from one connection to the next. */
interface Device {
  readonly options: WorkerOptions;
  readonly storage: SliceStorage;
  loaded: Loaded | undefined;
}

/** An engine, and the plan it was loaded for. */
interface Loaded {
  readonly plan: string;
  readonly engine: Engine;
  readonly slice: Hold;
  readonly memory: DeviceMemory;
  readonly cap: MemoryCap;
  readonly threads: ThreadChoice;
  readonly throttling: ThrottleWatch | undefined;
}

/**
 * Takes part in a cluster until `signal` says otherwise: joins the coordinator, obtains the slice it is to have, loads
 * it and takes the coordinator's steps. Joins again if the coordinator is lost, and keeps what it has loaded.
 * Throws `TOKEN_REJECTED`, `DEVICE_UNKNOWN`, `DEVICE_REMOVED`, `VERSION_MISMATCH`, `ABORTED`, what `checkDevice` does, and
 * what makes this device unable to have its share.
 */
export async function work(options: WorkerOptions): Promise<never> {
  const { host, port, membership, relocate, signal, onState } = options;
  checkDevice();
  closeCache(options.cacheDir);
  removeAbandonedFolders();
  const storage = new SliceStorage(options, (error) => onState?.({ state: "uncached", error }));
  const device: Device = { options, storage, loaded: undefined };
  const hello = () => introduction(device);
  try {
    for await (const { channel, welcome, localAddress } of joinCoordinator({
      host,
      port,
      membership,
      relocate,
      version,
      hello,
      signal,
      onState: (state) => onState?.(state),
    })) {
      try {
        const loaded = await load(channel, welcome, device);
        await channel.send({ type: "ready", phase: "loaded" });
        onState?.({ state: "ready" });
        await follow(channel, loaded, localAddress);
      } catch (error) {
        if (!channel.isOpen) continue;
        await report(channel, error);
        throw error;
      }
    }
    throw new Error("unreachable: joining ends by an error");
  } finally {
    await unload(device);
  }
}

/**
 * Throws what keeps this device from computing, with any coordinator: to be called before looking for one, which
 * goes on until one is found.
 */
export function checkDevice(): void {
  cpuDevice(openGgml());
}

/** Obtains and loads what the plan says; if the plan is the same as before, what is loaded stays. */
async function load(channel: CoordinatorChannel, welcome: Welcome, device: Device): Promise<Loaded> {
  const { options, storage } = device;
  const plan = await receivePlan(channel, welcome);
  const key = JSON.stringify(plan);
  if (device.loaded?.plan === key) return device.loaded;
  await unload(device);
  const description = rankOf(plan);
  const onProgress = (bytes: number, total: number) => options.onState?.({ state: "receiving", bytes, total });
  const cap = memoryCap(options.memory);
  // Asking for the layout of a tensor takes address space for it: what fits in no layout is refused before.
  plannedMemory(plan, description, undefined, cap, options);
  const wanted = deviceSlice(description, plan.model);
  const memory = plannedMemory(plan, description, wanted.rooms, cap, options);
  const threads = chooseThreads({ asked: options.threads, weightBytes: weightBytes(description) });
  options.onState?.({ state: "planned", memory, cap, threads });
  if (!options.local) warnOfThreads(threads);
  const source = receivedBlocks(channel, wanted.cut.blocks);
  const { engine, slice } = await repaired(async (suspect) => {
    const slice = await storage.obtain(wanted, { source, onProgress, suspect });
    returnMemory();
    options.onState?.({ state: "loading" });
    const streaming = streamsWeights(memory);
    const cached = !streaming && mayBeCached(cap);
    try {
      const engine = await Engine.start({
        description,
        options: planWorkerEngine(plan.engine, { threads: threads.threads, streaming }),
        origin: { kind: "slice", map: await sliceMap(slice.path), placement: placementOf(memory, cached) },
        signal: options.signal,
      });
      return { engine, slice };
    } catch (error) {
      await slice[Symbol.asyncDispose]();
      throw error;
    }
  });
  const throttling = options.local ? undefined : new ThrottleWatch(threads);
  device.loaded = { plan: key, engine, slice, memory, cap, threads, throttling };
  return device.loaded;
}

async function unload(device: Device): Promise<void> {
  const { loaded } = device;
  device.loaded = undefined;
  loaded?.throttling?.[Symbol.dispose]();
  await loaded?.engine[Symbol.asyncDispose]();
  await loaded?.slice[Symbol.asyncDispose]();
}

function warnOfThreads(choice: ThreadChoice): void {
  const warning = threadsWarning(choice);
  if (warning !== undefined) log("warn", warning);
}

/** Plans this device's memory. Throws `OUT_OF_MEMORY` where its share does not fit, whatever is streamed of it. */
function plannedMemory(
  { shares, engine }: RankPlan,
  description: RankDescription,
  rooms: DeviceSlice["rooms"] | undefined,
  cap: MemoryCap,
  { window: windowBlocks }: WorkerOptions,
): DeviceMemory {
  // The coordinator alone knows how sums travel: room for the widest.
  const demand: RankDemand = { description, rooms, cap, windowBlocks, ranks: shares.relative.length, wire: "f32" };
  const memory = deviceMemory(demand, engine);
  demandFit(memory, cap, `this device's share with a context of ${engine.context} tokens`);
  return memory;
}

async function receivePlan(channel: CoordinatorChannel, { rank, size }: Welcome): Promise<RankPlan> {
  const { value: message } = await channel.next();
  if (message?.type !== "plan") throw violation("its plan is missing");
  const { shares, engine, description: model, slice } = message;
  const parsed = rankPlanSchema.safeParse({ rank: message.rank, shares, engine, model });
  if (!parsed.success) throw violation(`its plan is not valid: ${firstIssue(parsed.error)}`);
  const plan = parsed.data;
  if (plan.model.hash !== slice.model) {
    throw violation("its plan is for one model, and its slice of another (the hashes differ)");
  }
  if (plan.rank !== rank || plan.shares.relative.length !== size) {
    throw violation(
      `its plan is for rank ${plan.rank} of ${plan.shares.relative.length}, and the place is ${rank} of ${size}`,
    );
  }
  return plan;
}

/** Throws `PROTOCOL_VIOLATION` unless links are set up to every other rank once. */
function checkLinks({ rank, size, peers }: LinkSetup, plan: RankDescription): void {
  const ranks = new Set([plan.rank, ...peers.map((peer) => peer.rank)]);
  const sound = rank === plan.rank && size === plan.shares.length && peers.length === size - 1;
  if (!sound || ranks.size !== size || Math.max(...ranks) >= size) {
    throw violation(`its links are not those of rank ${plan.rank} of ${plan.shares.length}`);
  }
  const named = peers.find(({ host }) => isIP(host.split("%")[0]!) === 0);
  if (named !== undefined) throw violation(`it gives no IP address of rank ${named.rank}`);
}

function violation(reason: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "the coordinator", reason });
}

/** Takes the coordinator's steps; when links are lost, offers new ones. Ends when the channel does. */
async function follow(channel: CoordinatorChannel, loaded: Loaded, host: string): Promise<void> {
  const { engine } = loaded;
  const messages = channel as unknown as MessageStream<CoordinatorMessage>;
  const mailbox = new Mailbox(messages, () => new StelliumError("ABORTED", { reason: "the coordinator stopped" }));
  const ended = channel.ended.then(() => engine.cutLinks());
  answerRequests(channel, mailbox, loaded);
  while (channel.isOpen) {
    await channel.send({ type: "ready", phase: "listening", dataPort: await engine.listen(host) });
    const { type: _, ...setup } = await mailbox.take("links");
    checkLinks(setup, engine.description);
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

/** Tells figures, what the last step was made of, the time and what was recorded, as often as it is asked to. */
function answerRequests(channel: CoordinatorChannel, mailbox: Mailbox<CoordinatorMessage>, loaded: Loaded): void {
  const answer = async <T extends CoordinatorMessage["type"]>(
    type: T,
    by: (request: Extract<CoordinatorMessage, { type: T }>) => Promise<void>,
  ) => {
    for (;;) await by(await mailbox.take(type));
  };
  const { engine } = loaded;
  const answers = [
    answer("stats-request", () => channel.send({ type: "stats", figures: figuresOf(loaded, channel) })),
    answer("profile-request", () => channel.send({ type: "profile", times: microseconds(engine.profile) })),
    answer("clock-request", ({ sequence }) => channel.send({ type: "clock", sequence, now: traceClock() })),
    answer("trace-request", () => sendTrace(channel, engine.trace)),
  ];
  for (const ended of answers) ended.catch(() => {});
}

/** Milliseconds, of which nothing below microseconds is of interest. */
function microseconds(times: Float32Array): number[] {
  return Array.from(times, (ms) => Math.round(ms * 1000) / 1000);
}

function figuresOf({ engine, memory, cap, threads }: Loaded, { traffic }: CoordinatorChannel): Record<string, number> {
  return {
    ...engine.statistics,
    ...engine.stepFigures,
    ...threadFigures(threads),
    kvBytes: memory.kvBytes,
    memoryCapBytes: cap.bytes,
    controlBytesSent: traffic.sent,
    controlBytesReceived: traffic.received,
    rssBytes: process.memoryUsage.rss(),
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function report(channel: CoordinatorChannel, error: unknown): Promise<void> {
  const code = error instanceof StelliumError ? error.code : "UNEXPECTED";
  await channel.send({ type: "failed", code, message: reasonOf(error).slice(0, 2048) }).catch(() => {});
}

async function introduction({ options, storage }: Device): Promise<WorkerHello> {
  const { name, threads, memory, membership } = options;
  const ggml = openGgml();
  return {
    type: "hello",
    name: name ?? hostname(),
    host: hostname(),
    threads: chooseThreads({ asked: threads, weightBytes: Number.POSITIVE_INFINITY }).threads,
    memoryCap: memory ?? null,
    features: deviceFeatures(cpuDevice(ggml)),
    cpuVariant: cpuVariantName() ?? null,
    ggml: ggml.version(),
    cache: (await namesIn(storage)).slice(0, mostSliceNames),
    keepsKey: membership.keepsKey,
  };
}

/** Names of the slices there are; none if there is no directory for them: storing one says what is wrong. */
async function namesIn(storage: SliceStorage): Promise<readonly string[]> {
  const directory = unlessHomeless(() => storage.directory);
  return directory === undefined ? [] : await sliceNames(directory).catch(() => []);
}
