import type { StelliumError } from "../errors.ts";
import { isWeightType } from "../native/tensorTypes.ts";
import { unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel, GgufTensor } from "../weights/gguf/model.ts";
import { type Range, wholeTensor } from "../weights/slice.ts";
import type { Architecture, BiasedProjection } from "./architecture.ts";
import type { ExpertMatrix } from "./expertWeights.ts";
import { isBesideText } from "./otherFiles.ts";
import { type Split, type Unit, type Weight, wholeWeight } from "./split.ts";

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
    if (tensor === undefined) throw this.unsupported(`it has no tensor ${name}`);
    return tensor;
  }

  /** Like `find`, but undefined if there is no tensor of that name. */
  findOptional(name: string, shape: readonly number[], type?: "F32"): GgufTensor | undefined {
    const tensor = this.#model.tensors.get(name);
    if (tensor === undefined) return undefined;
    this.#known.add(name);
    const actual = tensor.shape.join(" x ");
    if (actual !== shape.join(" x ")) {
      throw this.unsupported(`its tensor ${name} is ${actual} where ${shape.join(" x ")} was expected`);
    }
    const fits = type ? tensor.type === type : isWeightType(tensor.type);
    if (!fits) throw this.unsupported(`its tensor ${name} is ${tensor.type}, not ${type ?? "a type of weights"}`);
    return tensor;
  }

  /** Finds the weights of one layer. */
  layer(layer: number, architecture: Architecture): LayerFinder {
    return new LayerFinder(this, `blk.${layer}.`, architecture);
  }

  /**
   * A tensor that nothing asked for would change what the model says: better none than another answer. Returns how many
   * tensors do not touch text. Throws `MODEL_UNSUPPORTED`.
   *
   * @param layers - of the model
   */
  refuseUnknown(layers: number): number {
    const unasked = [...this.#model.tensors.keys()].filter((name) => !this.#known.has(name) && !ignored.test(name));
    const unknown = unasked.find((name) => !isBesideText(name, layers));
    if (unknown !== undefined) throw this.unsupported(`it has an unknown tensor ${unknown}`);
    return unasked.length;
  }

  /** The shape of the tensor of this name; of none if there is none. */
  shapeOf(name: string): readonly number[] {
    return this.#model.tensors.get(name)?.shape ?? [];
  }

  /** True if there is a tensor of this name, whatever its shape. */
  has(name: string): boolean {
    return this.#model.tensors.has(name);
  }

  /** The error that refuses the model for a reason. */
  unsupported(reason: string): StelliumError {
    return unsupportedModel(this.#model, reason);
  }
}

/** The values that a projection gives, and how ranks divide it. */
export interface ProjectionSize {
  readonly outputs: number;
  readonly split: Split;
}

/** A projection among those that are the rows of one matrix. */
export interface FusedProjection extends ProjectionSize {
  readonly stem: BiasedProjection;
}

/** Finds the weights of one layer, by their roles. Everything here throws `MODEL_UNSUPPORTED`. */
export class LayerFinder {
  readonly #finder: TensorFinder;
  readonly #prefix: string;
  readonly #architecture: Architecture;

  constructor(finder: TensorFinder, prefix: string, architecture: Architecture) {
    this.#finder = finder;
    this.#prefix = prefix;
    this.#architecture = architecture;
  }

  has(role: string): boolean {
    return this.#finder.has(this.#prefix + role);
  }

  vector(role: string, length: number, split: Split, resident = false): Weight {
    const tensor = this.#finder.find(this.#prefix + role, [length], "F32");
    return wholeWeight({ role, kind: "vector", tensor, split, ...(resident && { resident }) });
  }

  matrix(role: string, inputs: number, outputs: number, split: Split): Weight {
    const tensor = this.#finder.find(this.#prefix + role, [inputs, outputs]);
    return wholeWeight({ role, kind: "matrix", tensor, split });
  }

  /** Matrices of one shape in a tensor of three dimensions, which are split by their rows. */
  matrices(role: string, inputs: number, outputs: number, count: number, split: Split): Weight {
    const tensor = this.#finder.find(this.#prefix + role, [inputs, outputs, count]);
    const rows = { start: 0, count: outputs * count };
    return { ...wholeWeight({ role, kind: "matrix", tensor, split }), rows, matrixRows: outputs };
  }

  /** A matrix, and its bias if it has one. */
  projection(stem: BiasedProjection, inputs: number, { outputs, split }: ProjectionSize): Weight[] {
    const matrix = this.matrix(`${stem}.weight`, inputs, outputs, split);
    const bias = this.#hasBias(stem) ? [this.vector(`${stem}.bias`, outputs, biasSplit(split))] : [];
    return [matrix, ...bias];
  }

  /** Projections that are the rows of one matrix, one after the other, and the elements of one bias. */
  fused(stem: string, inputs: number, projections: readonly FusedProjection[]): Weight[] {
    const all = projections.reduce((sum, { outputs }) => sum + outputs, 0);
    const matrix = this.#finder.find(`${this.#prefix}${stem}.weight`, [inputs, all]);
    const bias = projections.some((part) => this.#mayHaveBias(part.stem))
      ? this.#finder.findOptional(`${this.#prefix}${stem}.bias`, [all], "F32")
      : undefined;
    let start = 0;
    return projections.flatMap(({ stem: part, outputs, split }) => {
      const band = { start, count: outputs };
      start += outputs;
      const named = (suffix: string) => ({
        role: `${part}.${suffix}`,
        split,
        name: `${this.#prefix}${part}.${suffix}`,
      });
      const rows = { ...wholeTensor(matrix), ...named("weight"), kind: "matrix" as const, rows: band };
      return bias === undefined
        ? [rows]
        : [rows, { ...wholeTensor(bias), ...named("bias"), kind: "vector" as const, columns: band }];
    });
  }

  /** Elements of a tensor along a dimension, counted from 0. */
  lengthOf(role: string, dimension: number): number {
    return this.#finder.shapeOf(this.#prefix + role)[dimension] ?? 1;
  }

  /** A matrix of each of `count` experts: all of them in one tensor, or each in one of its own. */
  expertMatrix(
    stem: BiasedProjection,
    size: ProjectionSize & { readonly inputs: number },
    count: number,
  ): ExpertMatrix {
    const { inputs, outputs, split } = size;
    const role = `${stem}_exps.weight`;
    const stacked = this.#finder.findOptional(this.#prefix + role, [inputs, outputs, count]);
    const apart = stacked === undefined ? this.#expertsApart(stem, inputs, outputs, count) : undefined;
    return this.#expertMatrix(role, stacked ?? apart![0]!, { start: 0, count: outputs }, split, apart);
  }

  /** The gate and the other matrix of what is multiplied with it, of all experts, as wide as their tensors are. */
  gatedExperts(inputs: number, split: Split, count: number): ExpertMatrix[] {
    const fused = "ffn_gate_up_exps.weight";
    if (!this.has(fused)) {
      const outputs = this.lengthOf(this.has("ffn_up_exps.weight") ? "ffn_up_exps.weight" : "ffn_up.0.weight", 1);
      return (["ffn_gate", "ffn_up"] as const).map((stem) =>
        this.expertMatrix(stem, { inputs, outputs, split }, count),
      );
    }
    const both = this.lengthOf(fused, 1);
    const tensor = this.#finder.find(this.#prefix + fused, [inputs, 2 * Math.floor(both / 2), count]);
    return ["ffn_gate", "ffn_up"].map((stem, i) =>
      this.#expertMatrix(`${stem}_exps.weight`, tensor, { start: (i * both) / 2, count: both / 2 }, split),
    );
  }

  /** One row of F32 for each of `count` experts. */
  rowsOfBias(role: string, length: number, count: number, split: Split): Weight {
    const tensor = this.#finder.find(this.#prefix + role, [length, count], "F32");
    return wholeWeight({ role, kind: "matrix", tensor, split });
  }

  #expertMatrix(
    role: string,
    tensor: GgufTensor,
    rows: Range,
    split: Split,
    apart?: readonly GgufTensor[],
  ): ExpertMatrix {
    const named = { name: this.#prefix + role, role, kind: "expert", split, rows } as const;
    return { ...wholeTensor(tensor), ...named, ...(apart ? { stride: 0, apart } : { stride: tensor.shape[1]! }) };
  }

  /** The tensors of all experts, which have to be of one type. */
  #expertsApart(stem: string, inputs: number, outputs: number, count: number): GgufTensor[] {
    const tensors = Array.from({ length: count }, (_, expert) =>
      this.#finder.find(`${this.#prefix}${stem}.${expert}.weight`, [inputs, outputs]),
    );
    const [first] = tensors;
    const odd = tensors.find(({ type }) => type !== first!.type);
    if (odd === undefined) return tensors;
    throw this.#finder.unsupported(`its tensor ${odd.name} is ${odd.type}, where ${first!.name} is ${first!.type}`);
  }

  /** The norms of a block of whose units each has `unit`, by their roles, as far as the architecture has them. */
  norms(before: string, after: string, length: number, unit: Unit | undefined) {
    const { norms = "before", parallel = false } = this.#architecture;
    const wanted = { before: norms !== "after", after: norms !== "before" };
    // What two blocks read, or what is read after a sum, stays in memory.
    const split = { axis: "replicated", ...(unit !== undefined && { unit }) } as const;
    const first = wanted.before ? [this.vector(`${before}.weight`, length, split, parallel)] : [];
    const last = wanted.after ? [this.vector(`${after}.weight`, length, { axis: "replicated" }, true)] : [];
    return { weights: [...first, ...last], before: first[0]?.role, after: last[0]?.role };
  }

  #mayHaveBias(stem: BiasedProjection): boolean {
    const { required = [], optional = [] } = this.#architecture.biases ?? {};
    return required.includes(stem) || optional.includes(stem);
  }

  #hasBias(stem: BiasedProjection): boolean {
    const required = this.#architecture.biases?.required?.includes(stem) ?? false;
    return required || (this.#mayHaveBias(stem) && this.has(`${stem}.bias`));
  }
}

/** Of columns, each rank has products of its own inputs, so that the bias is added once. */
function biasSplit(split: Split): Split {
  return split.axis === "columns" ? { axis: "once", unit: split.unit } : split;
}
