import { StelliumError } from "../errors.ts";
import type { GgufModel, GgufTensor } from "../weights/gguf/model.ts";
import { isWeightType } from "../weights/gguf/types.ts";
import type { Architecture, BiasedProjection } from "./architectures/architecture.ts";
import { type Hyperparameters, readHyperparameters } from "./hyperparameters.ts";

/** A weight of a block: the role it has there, and the tensor that holds it. */
export interface Weight {
  /** GGUF's name within the layer, such as `attn_q.weight`. */
  readonly role: string;
  /** A matrix is multiplied, in any type and layout; a vector is added or scaled by, in F32. */
  readonly kind: "matrix" | "vector";
  readonly tensor: GgufTensor;
}

/** The unit of computing: the attention or feed-forward half of a layer, or the head behind the last one. */
export interface Block {
  readonly kind: "attention" | "ffn" | "head";
  /** Index of the layer; of the head, the number of layers. */
  readonly layer: number;
  readonly weights: readonly Weight[];
}

/** What the engine needs to know of a model. Plain data: it crosses threads. */
export interface ModelDescription {
  readonly files: readonly string[];
  readonly architecture: Architecture;
  readonly hyperparameters: Hyperparameters;
  /** In order of computing: attention and ffn of each layer, then the head. */
  readonly blocks: readonly Block[];
  /** Rows of it are read from disk when a token needs them. */
  readonly embedding: GgufTensor;
  /** Factors on RoPE's frequencies, F32, one for every pair of values. */
  readonly ropeFactors: GgufTensor | undefined;
}

/** Tensors that older converters wrote and that nothing reads. */
const ignored = /^(rope_freqs\.weight|blk\.\d+\.(attn_rot_embd|attn\.rot_embd)(\.weight)?)$/;

/** Finds every tensor of a model and checks its shape. Throws `MODEL_UNSUPPORTED` naming what is missing or unknown. */
export function describeModel(model: GgufModel, architecture: Architecture): ModelDescription {
  const hyperparameters = readHyperparameters(model, architecture);
  const finder = new TensorFinder(model);
  const h = hyperparameters;
  const embedding = finder.find("token_embd.weight", [h.embeddingLength, h.vocabularySize]);
  const factors = architecture.ropeFactors
    ? finder.findOptional("rope_freqs.weight", [h.rope.dimensions / 2], "F32")
    : undefined;
  const blocks = Array.from({ length: h.blockCount }, (_, layer) => [
    attentionBlock(finder, architecture, h, layer),
    ffnBlock(finder, architecture, h, layer),
  ]).flat();
  blocks.push(headBlock(finder, h, embedding));
  finder.refuseUnknown();
  return { files: model.files, architecture, hyperparameters, blocks, embedding, ropeFactors: factors };
}

function attentionBlock(finder: TensorFinder, architecture: Architecture, h: Hyperparameters, layer: number): Block {
  const queries = h.headCount * h.keyLength;
  const keys = h.headCountKv * h.keyLength;
  const block = finder.block(layer);
  const weights = [
    block.vector("attn_norm.weight", h.embeddingLength),
    ...block.projection("attn_q", architecture, h.embeddingLength, queries),
    ...block.projection("attn_k", architecture, h.embeddingLength, keys),
    ...block.projection("attn_v", architecture, h.embeddingLength, keys),
    ...block.projection("attn_output", architecture, queries, h.embeddingLength),
  ];
  if (architecture.qkNorm) {
    weights.push(block.vector("attn_q_norm.weight", h.keyLength), block.vector("attn_k_norm.weight", h.keyLength));
  }
  return { kind: "attention", layer, weights };
}

function ffnBlock(finder: TensorFinder, architecture: Architecture, h: Hyperparameters, layer: number): Block {
  const block = finder.block(layer);
  const weights = [
    block.vector("ffn_norm.weight", h.embeddingLength),
    ...block.projection("ffn_gate", architecture, h.embeddingLength, h.feedForwardLength),
    ...block.projection("ffn_up", architecture, h.embeddingLength, h.feedForwardLength),
    ...block.projection("ffn_down", architecture, h.feedForwardLength, h.embeddingLength),
  ];
  return { kind: "ffn", layer, weights };
}

/** A model without `output.weight` multiplies by its embedding instead: a tied head. */
function headBlock(finder: TensorFinder, h: Hyperparameters, embedding: GgufTensor): Block {
  const output = finder.findOptional("output.weight", [h.embeddingLength, h.vocabularySize]) ?? embedding;
  const norm = finder.find("output_norm.weight", [h.embeddingLength], "F32");
  const weights: Weight[] = [
    { role: "output_norm.weight", kind: "vector", tensor: norm },
    { role: "output.weight", kind: "matrix", tensor: output },
  ];
  return { kind: "head", layer: h.blockCount, weights };
}

/** Looks tensors up by name, checks them, and remembers which ones it was asked for. */
class TensorFinder {
  readonly #model: GgufModel;
  readonly #known = new Set<string>();

  constructor(model: GgufModel) {
    this.#model = model;
  }

  find(name: string, shape: number[], type?: "F32"): GgufTensor {
    const tensor = this.findOptional(name, shape, type);
    if (tensor === undefined) throw this.#unsupported(`it has no tensor ${name}`);
    return tensor;
  }

  findOptional(name: string, shape: number[], type?: "F32"): GgufTensor | undefined {
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

  /** The tensors of one layer. */
  block(layer: number) {
    const vector = (role: string, length: number): Weight => {
      return { role, kind: "vector", tensor: this.find(`blk.${layer}.${role}`, [length], "F32") };
    };
    const optionalBias = (stem: BiasedProjection, length: number): Weight[] => {
      const tensor = this.findOptional(`blk.${layer}.${stem}.bias`, [length], "F32");
      return tensor === undefined ? [] : [{ role: `${stem}.bias`, kind: "vector", tensor }];
    };
    const bias = (stem: BiasedProjection, architecture: Architecture, length: number): Weight[] => {
      if (architecture.requiredBiases.includes(stem)) return [vector(`${stem}.bias`, length)];
      return architecture.optionalBiases.includes(stem) ? optionalBias(stem, length) : [];
    };
    const projection = (stem: BiasedProjection, architecture: Architecture, inputs: number, outputs: number) => {
      const tensor = this.find(`blk.${layer}.${stem}.weight`, [inputs, outputs]);
      const matrix: Weight = { role: `${stem}.weight`, kind: "matrix", tensor };
      return [matrix, ...bias(stem, architecture, outputs)];
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
