import { Forward } from "#stellium/engine/forward";
import { InputRows } from "#stellium/engine/inputRows";
import { KvCache } from "#stellium/engine/kvCache";
import { soloReducer } from "#stellium/engine/reducer";
import type { Architecture } from "#stellium/model/architecture";
import { describeModel } from "#stellium/model/describeModel";
import { storedExperts } from "#stellium/model/expertWeights";
import { inputValues } from "#stellium/model/hyperparameters";
import { type ComputeBackend, openBackend } from "#stellium/native/backend";
import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { allocateNative } from "#stellium/native/memory";
import { type RankDescription, rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import type { GgufModel } from "#stellium/weights/gguf/model";
import { loadCounter } from "#stellium/weights/loader";
import { WeightStore } from "#stellium/weights/weightStore";
import { logSoftmax, type ReferenceRun } from "../engine/oracle.ts";

const ggml = openGgml();
const device = cpuDevice(ggml);
const context = 512;

/** The weights of a model in this thread, loaded once, to be computed with under one set of facts after the other. */
export class LoadedModel implements Disposable {
  readonly #gguf: GgufModel;
  readonly #weights: WeightStore;
  readonly #abortFlag = allocateNative(2);
  readonly #backend: ComputeBackend;

  static async load(gguf: GgufModel, facts: Architecture): Promise<LoadedModel> {
    const { files, blocks, shared } = describe(gguf, facts);
    const stored = [...blocks.flatMap(({ weights }) => weights), ...shared];
    const experts = storedExperts(blocks);
    const weights = new WeightStore(ggml, device, { paths: files, cached: true }, stored, experts);
    await weights.load(1, new Int32Array(loadCounter.length));
    return new LoadedModel(gguf, weights);
  }

  private constructor(gguf: GgufModel, weights: WeightStore) {
    this.#gguf = gguf;
    this.#weights = weights;
    this.#abortFlag.view.fill(0);
    this.#backend = openBackend(device, { threads: 1, poll: 0, abortFlag: this.#abortFlag.address });
  }

  /**
   * Log-probabilities of all tokens at each position of a reference. Throws `MODEL_UNSUPPORTED`.
   *
   * @param passes - one for all tokens, or one for the prompt and then one for each token
   */
  teacherForced(facts: Architecture, { prompt, tokens }: ReferenceRun, passes: "one" | "each" = "one"): Float64Array[] {
    const description = describe(this.#gguf, facts);
    const { vocabularySize } = description.hyperparameters;
    const text = Int32Array.from([...prompt, ...tokens.slice(0, -1)]);
    const logits = new Float32Array(tokens.length * vocabularySize);
    const parts = { ggml, backend: this.#backend, description, weights: this.#weights };
    using inputRows = new InputRows(parts);
    using kv = new KvCache(ggml, device, description, "f16", { context });
    using forward = new Forward({ ...parts, kv, batch: context, reducer: soloReducer, graphs: "whole" });
    const width = inputValues(description.hyperparameters);
    const outputs = passes === "one" ? tokens.length : 1;
    const counts = passes === "one" ? [text.length] : [prompt.length, ...tokens.slice(1).map(() => 1)];
    let position = 0;
    for (const [i, count] of counts.entries()) {
      const pass = { slot: 0, tokens: count, position, outputs, hidden: false };
      const rows = new Float32Array(count * width);
      inputRows.read(text.subarray(position, position + count), rows);
      if (!forward.run([pass], rows, logits.subarray(i * vocabularySize))) throw new Error("the pass was stopped");
      position += count;
    }
    return tokens.map((_, i) => logSoftmax(logits.subarray(i * vocabularySize, (i + 1) * vocabularySize)));
  }

  [Symbol.dispose](): void {
    this.#backend[Symbol.dispose]();
    this.#abortFlag[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
  }
}

function describe(gguf: GgufModel, facts: Architecture): RankDescription {
  const whole = describeModel(gguf, facts);
  return rankDescription(whole, planShares(whole, [1]), 0);
}
