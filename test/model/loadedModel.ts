import { Forward } from "#stellium/engine/forward";
import { InputRows } from "#stellium/engine/inputRows";
import { KvCache } from "#stellium/engine/kvCache";
import { soloReducer } from "#stellium/engine/reducer";
import type { Architecture } from "#stellium/model/architecture";
import { describeModel } from "#stellium/model/describeModel";
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
    const weights = new WeightStore(ggml, device, { paths: files, cached: true }, stored);
    await weights.load(1, new Int32Array(loadCounter.length));
    return new LoadedModel(gguf, weights);
  }

  private constructor(gguf: GgufModel, weights: WeightStore) {
    this.#gguf = gguf;
    this.#weights = weights;
    this.#abortFlag.view.fill(0);
    this.#backend = openBackend(device, { threads: 1, poll: 0, abortFlag: this.#abortFlag.address });
  }

  /** Log-probabilities of all tokens at each position of a reference, in one pass. Throws `MODEL_UNSUPPORTED`. */
  teacherForced(facts: Architecture, { prompt, tokens }: ReferenceRun): Float64Array[] {
    const description = describe(this.#gguf, facts);
    const { vocabularySize } = description.hyperparameters;
    const text = Int32Array.from([...prompt, ...tokens.slice(0, -1)]);
    const logits = new Float32Array(tokens.length * vocabularySize);
    const parts = { ggml, backend: this.#backend, description, weights: this.#weights };
    using inputRows = new InputRows(parts);
    const rows = new Float32Array(text.length * inputValues(description.hyperparameters));
    inputRows.read(text, rows);
    using kv = new KvCache(ggml, device, description, "f16", { context });
    using forward = new Forward({ ...parts, kv, batch: context, reducer: soloReducer, graphs: "whole" });
    const pass = { slot: 0, tokens: text.length, position: 0, outputs: tokens.length, hidden: false };
    if (!forward.run([pass], rows, logits)) throw new Error("the pass was stopped");
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
