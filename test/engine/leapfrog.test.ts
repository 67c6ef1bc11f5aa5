import { fileURLToPath } from "node:url";
import { expect, it, describe as suite } from "vitest";
import { Embedding } from "#stellium/engine/embedding";
import { Forward } from "#stellium/engine/forward";
import { KvCache } from "#stellium/engine/kvCache";
import { type Reducer, soloReducer } from "#stellium/engine/reducer";
import { describe } from "#stellium/model/support";
import { openBackend } from "#stellium/native/backend";
import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { allocateNative } from "#stellium/native/memory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";
import { WeightStore } from "#stellium/weights/weightStore";
import { logSoftmax } from "./oracle.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const count = 100;
const tokens = Array.from({ length: count }, (_, i) => (i * 37 + 11) % 1000);

/** Sums that are those of this rank alone, and on their way until somebody waits for them; it records what is asked of it. */
function recordingReducer(events: string[]): Reducer {
  const travelling = new Map<number, { values: Float32Array; sum: Float32Array }>();
  return {
    separates: true,
    lanes: 2,
    begin: () => 2,
    start(lane, { values }) {
      events.push(`start ${lane}`);
      travelling.set(lane, { values, sum: values.slice() });
      values.fill(Number.NaN);
    },
    wait(lane) {
      const sum = travelling.get(lane);
      if (sum === undefined) return true;
      events.push(`wait ${lane}`);
      sum.values.set(sum.sum);
      travelling.delete(lane);
      return true;
    },
    broadcast() {},
  };
}

/** Logits of the last `outputs` tokens of a prompt, by a reducer. */
async function logitsBy(reducer: Reducer, outputs: number): Promise<Float32Array> {
  const model = describe(await readGguf(demo));
  const description = rankDescription(model, planShares(model, [1]), 0);
  const { embeddingLength, vocabularySize } = description.hyperparameters;
  const ggml = openGgml();
  const device = cpuDevice(ggml);
  const stored = description.blocks.flatMap((block) => block.weights);
  using weights = new WeightStore(ggml, device, { paths: description.files, cached: true }, stored);
  await weights.load(1, new Int32Array(new SharedArrayBuffer(32)));
  using flag = allocateNative(2);
  flag.view.fill(0);
  using backend = openBackend(device, { threads: 1, poll: 0, abortFlag: flag.address });
  using kv = new KvCache(ggml, device, description, "f16", { context: 512 });
  const options = { graphs: "whole", batch: 512 } as const;
  using forward = new Forward({ ggml, backend, description, weights, kv, reducer, ...options });
  const rows = new Float32Array(count * embeddingLength);
  using embedding = new Embedding(ggml, description.files[0]!, description.embedding!);
  embedding.read(Int32Array.from(tokens), rows);
  const logits = new Float32Array(outputs * vocabularySize);
  const step = [{ slot: 0, tokens: count, position: 0, outputs, hidden: false }];
  expect(forward.run(step, rows, logits)).toBe(true);
  return logits;
}

suite("groups of a step", () => {
  it("leapfrog: the sums of one travel while the other is computed, and nobody touches them", async () => {
    const events: string[] = [];
    await logitsBy(recordingReducer(events), 1);
    const { blocks } = describe(await readGguf(demo));
    // The first group has no outputs: behind the last attention nothing is wanted of it.
    const both = blocks.length - 3;
    const expected = ["start 0", "start 1"];
    for (let block = 1; block < both; block++) expected.push("wait 0", "start 0", "wait 1", "start 1");
    expected.push("wait 0", "wait 1", "start 1", "wait 1", "start 1", "wait 1");
    expect(events).toEqual(expected);
  });

  it.each([1, 30, 100])("write what one group writes, with %i outputs", async (outputs) => {
    const [divided, whole] = [await logitsBy(recordingReducer([]), outputs), await logitsBy(soloReducer, outputs)];
    const size = whole.length / outputs;
    const differences = Array.from({ length: outputs }, (_, output) => {
      const row = (logits: Float32Array) => logSoftmax(logits.subarray(output * size, (output + 1) * size));
      const [ours, theirs] = [row(divided), row(whole)];
      const likely = theirs.reduce((best, value, token) => (value > theirs[best]! ? token : best), 0);
      return Math.abs(ours[likely]! - theirs[likely]!);
    });
    // Single ones may be farther off by rounding.
    expect(differences.reduce((sum, each) => sum + each) / outputs).toBeLessThan(0.03);
  });
});
