import { StelliumError } from "../errors.ts";
import type { GgufModel, GgufTensor } from "../weights/gguf/model.ts";
import { isWeightType } from "../weights/gguf/types.ts";
import type { Architecture, BiasedProjection } from "./architecture.ts";
import { isDivided, type Split, type Weight, wholeWeight } from "./split.ts";

/** Tensors that older converters wrote and that nothing reads. */
const ignored = /^(rope_freqs\.weight|blk\.\d+\.(attn_rot_embd|attn\.rot_embd)(\.weight)?)$/;

/** Looks tensors up by name, checks them, and remembers which ones it was asked for. */
export class TensorFinder {
  readonly #model: GgufModel;
  readonly #known = new Set<string>();

  constructor(model: GgufModel) {
    this.#model = model;
  }

  /** A tensor of this shape, in any type of weights or in `type`. Throws `MODEL_UNSUPPORTED`. */
  find(name: string, shape: readonly number[], type?: "F32"): GgufTensor {
    const tensor = this.findOptional(name, shape, type);
    if (tensor === undefined) throw this.#unsupported(`it has no tensor ${name}`);
    return tensor;
  }

  /** Like `find`, but undefined if there is no tensor of that name. */
  findOptional(name: string, shape: readonly number[], type?: "F32"): GgufTensor | undefined {
    const tensor = this.#model.tensors.get(name);
    if (tensor === undefined) return undefined;
    this.#known.add(name);
    const actual = tensor.shape.join(" x ");
    if (actual !== shape.join(" x ")) {
      throw this.#unsupported(`its tensor ${name} is ${actual} where ${shape.join(" x ")} was expected`);
    }
    const fits = type ? tensor.type === type : isWeightType(tensor.type);
    if (!fits) throw this.#unsupported(`its tensor ${name} is ${tensor.type}, not ${type ?? "a type of weights"}`);
    return tensor;
  }

  /** Finds the weights of one layer, by their roles. All of it throws `MODEL_UNSUPPORTED`. */
  layer(layer: number, { requiredBiases, optionalBiases }: Architecture) {
    const vector = (role: string, length: number, split: Split): Weight => {
      const tensor = this.find(`blk.${layer}.${role}`, [length], "F32");
      return wholeWeight({ role, kind: "vector", tensor, split });
    };
    const bias = (stem: BiasedProjection, length: number, split: Split): Weight[] => {
      const role = `${stem}.bias`;
      const wanted = requiredBiases.includes(stem) || optionalBiases.includes(stem);
      const there = wanted && this.findOptional(`blk.${layer}.${role}`, [length], "F32") !== undefined;
      return there || requiredBiases.includes(stem) ? [vector(role, length, split)] : [];
    };
    /** A matrix and its bias. Of columns, each rank has its own products of its own inputs: the bias is added once. */
    const projection = (stem: BiasedProjection, inputs: number, outputs: number, split: Split): Weight[] => {
      const tensor = this.find(`blk.${layer}.${stem}.weight`, [inputs, outputs]);
      const matrix = wholeWeight({ role: `${stem}.weight`, kind: "matrix", tensor, split });
      return [matrix, ...bias(stem, outputs, biasSplit(split))];
    };
    return { vector, projection };
  }

  /** A tensor that nothing asked for would change what the model says: better none than another answer. */
  refuseUnknown(): void {
    for (const name of this.#model.tensors.keys()) {
      if (!this.#known.has(name) && !ignored.test(name)) throw this.#unsupported(`it has an unknown tensor ${name}`);
    }
  }

  #unsupported(reason: string): StelliumError {
    return new StelliumError("MODEL_UNSUPPORTED", { model: this.#model.files[0] ?? "the model", reason });
  }
}

function biasSplit(split: Split): Split {
  return isDivided({ split }) && split.axis === "columns" ? { axis: "once", unit: split.unit } : split;
}
