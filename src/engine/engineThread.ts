import { parentPort, workerData } from "node:worker_threads";
import { deviceFeatures, openBackend } from "../native/backend.ts";
import { cpuDevice, openGgml } from "../native/ggml.ts";
import type { RankDescription } from "../plan/rankDescription.ts";
import { openRecorder } from "../trace/recorder.ts";
import { spanKind } from "../trace/spans.ts";
import { sliceLoadTasks } from "../weights/sliceWeights.ts";
import { ggufWeights, type StoredTensor, type WeightSource, WeightStore } from "../weights/weightStore.ts";
import { EngineLoop } from "./engineLoop.ts";
import { KvCache } from "./kvCache.ts";
import {
  type EngineReady,
  type EngineSetup,
  failureOf,
  putExchange,
  statistic,
  type WeightOrigin,
} from "./protocol.ts";

// The engine thread: loads the weights, then does what it is asked to, one thing after the other. It blocks on purpose.
const setup = workerData as EngineSetup;
const { description, options, shared } = setup;

try {
  await main();
} catch (error) {
  putExchange(shared, failureOf(error));
  parentPort!.postMessage({ failed: true });
}

async function main(): Promise<void> {
  const ggml = openGgml();
  const device = cpuDevice(ggml);
  using weights = new WeightStore(ggml, device, weightSource(setup.origin), storedTensors(description));
  shared.statistics[statistic.weightBytes] = weights.bytes;
  await load(weights);
  using backend = openBackend(device, { ...options, abortFlag: setup.abortFlag });
  using kv = new KvCache(ggml, device, description.hyperparameters, options.kvType, options);
  using loop = new EngineLoop({ ggml, backend, description, weights, kv, options, shared });
  const ready = { device: ggml.deviceDescription(device), features: deviceFeatures(device), layouts: weights.layouts };
  parentPort!.postMessage(ready satisfies EngineReady);
  loop.run();
}

async function load(weights: WeightStore): Promise<void> {
  const recorder = openRecorder(shared.trace?.engine);
  const started = recorder.now();
  await weights.load(options.threads + 1, shared.loading);
  recorder.end(spanKind.load, started, 0, weights.bytes);
}

/** What has to be in memory: all weights of all blocks. Of a tied head that is the embedding, too. */
function storedTensors({ blocks, ropeFactors }: RankDescription): StoredTensor[] {
  const stored: StoredTensor[] = blocks.flatMap((block) => block.weights);
  return ropeFactors ? [...stored, { kind: "vector", ...ropeFactors }] : stored;
}

function weightSource(origin: WeightOrigin): WeightSource {
  if (origin.kind === "gguf") return ggufWeights(origin.files);
  const tasksOf = sliceLoadTasks(origin.path, origin.header);
  return (slice, place) => tasksOf(slice.tensor.name, place);
}
