import { parentPort, workerData } from "node:worker_threads";
import { storedExperts } from "../model/expertWeights.ts";
import { routingFacts } from "../model/routing.ts";
import { deviceFeatures, openBackend } from "../native/backend.ts";
import { cpuDevice, type Device, type Ggml, openGgml } from "../native/ggml.ts";
import { viewNative } from "../native/memory.ts";
import { plainMap } from "../plan/rankDescription.ts";
import { openRecorder } from "../trace/recorder.ts";
import { noRouting, type RoutingRecorder, recordRouting } from "../trace/routing.ts";
import { otherSubject, readerThreads, spanKind } from "../trace/spans.ts";
import { Layouts } from "../weights/layout.ts";
import { loadCounter } from "../weights/loader.ts";
import { WeightStore } from "../weights/weightStore.ts";
import type { Weights } from "../weights/weights.ts";
import { BlockWeights } from "../weights/window/blockWeights.ts";
import type { ReaderTrace } from "../weights/window/pieceReader.ts";
import { EngineLoop } from "./engineLoop.ts";
import { KvCache } from "./kvCache.ts";
import { type EngineReady, type EngineSetup, failureOf, putMessage, statistic, type WeightOrigin } from "./protocol.ts";

// The engine thread: loads the weights, then does what it is asked to, one thing after the other. It blocks on purpose.
const setup = workerData as EngineSetup;
const { description, options, shared } = setup;
/** While one brings what it has read into place, another reads. More than there are cores only hold each other up. */
const leastLoaders = 2;

try {
  await main();
} catch (error) {
  putMessage(shared, failureOf(error));
  parentPort!.postMessage({ failed: true });
}

async function main(): Promise<void> {
  Atomics.wait(shared.loading, loadCounter.libraries, 0);
  if (Atomics.load(shared.loading, loadCounter.stop) !== 0) return;
  const ggml = openGgml();
  const device = cpuDevice(ggml);
  using routing = openRouting();
  using weights = openWeights(ggml, device, setup.origin);
  shared.statistics[statistic.weightBytes] = weights.bytes;
  shared.statistics[statistic.pinnedBytes] = weights.pinnedBytes;
  shared.statistics[statistic.windowBytes] = weights.windowBytes;
  shared.statistics[statistic.expertSlots] = weights.stacked ? 0 : (weights.pool?.slots ?? 0);
  await load(weights);
  shared.statistics[statistic.diskBytes] = weights.window.bytesRead;
  using backend = openBackend(device, { ...options, abortFlag: shared.abortFlag[0]! });
  using kv = new KvCache(ggml, device, description, options.kvType, options);
  using loop = new EngineLoop({ ggml, backend, description, weights, kv, options, shared, routing });
  const ready = { device: ggml.deviceDescription(device), features: deviceFeatures(device), layouts: weights.layouts };
  parentPort!.postMessage(ready satisfies EngineReady);
  loop.run();
}

function openRouting(): RoutingRecorder {
  if (options.recordRouting === undefined) return noRouting;
  return recordRouting(options.recordRouting, routingFacts(description)!);
}

async function load(weights: Weights): Promise<void> {
  const recorder = openRecorder(shared.trace?.engine);
  const started = recorder.now();
  await weights.load(Math.max(leastLoaders, options.threads), shared.loading);
  recorder.end(spanKind.load, started, 0, weights.pinnedBytes);
}

function openWeights(ggml: Ggml, device: Device, origin: WeightOrigin): Weights {
  const { blocks, shared: unowned } = description;
  if (origin.kind === "gguf") {
    const slices = [...blocks.flatMap((block) => block.weights), ...unowned];
    const files = { paths: origin.files, cached: origin.cached ?? true };
    return new WeightStore(ggml, device, files, slices, storedExperts(blocks));
  }
  const map = origin.kind === "slice" ? origin.map : plainMap(description, new Layouts(ggml, device).plain.name);
  const abortFlag = viewNative(shared.abortFlag[0]!, 1);
  // Where experts lie in the model's files, they begin at other places within a page.
  const stacks = origin.kind === "slice" ? storedExperts(blocks).stacks : [];
  const { routing } = description.hyperparameters;
  const more = { traces: readerTraces(), stacks, leastSlots: routing?.used ?? 0 };
  return new BlockWeights(ggml, device, map, origin.placement, () => abortFlag[0] !== 0, more);
}

function readerTraces(): ReaderTrace[] {
  if (shared.trace === undefined) return [];
  const subjects = [...description.blocks.keys(), otherSubject];
  const { trace } = shared;
  return readerThreads.map((thread) => ({ memory: trace[thread], subjects }));
}
