import type { Architecture } from "#stellium/model/architecture";
import { llama } from "#stellium/model/architectures/llama";
import { describeModel, type ModelDescription } from "#stellium/model/describeModel";
import { rowBytes, type TensorTypeName } from "#stellium/native/tensorTypes";
import type { GgufTensor, GgufValue } from "#stellium/weights/gguf/model";

/** Dimensions and types of a model that was never trained. */
export interface Shape {
  layers: number;
  kvHeads: number;
  /** Query heads for each KV head. */
  group: number;
  headLength: number;
  embedding: number;
  ffn: number;
  vocabulary: number;
  /** Types of the matrices, by layer in turn. */
  types: readonly TensorTypeName[];
  biases?: boolean;
  ropeFactors?: boolean;
}

/** Biases and norms as no model has them all. */
const everything: Architecture = { ...llama, qkNorm: "head" };

/** A description of a llama model with tensors that follow on each other in one file. */
export function describeShape(shape: Shape): ModelDescription & { fileBytes: number } {
  const tensors = new Map(tensorsOf(shape).map((tensor) => [tensor.name, tensor]));
  const model = { files: ["model.gguf"], fileBytes: [], version: 3, metadata: metadataOf(shape), tensors };
  const last = [...tensors.values()].at(-1)!;
  return { ...describeModel(model, everything), fileBytes: last.offset + last.bytes };
}

function metadataOf({ embedding, ffn, layers, kvHeads, group, headLength }: Shape): Map<string, GgufValue> {
  return new Map<string, GgufValue>([
    ["general.architecture", "llama"],
    ["llama.block_count", layers],
    ["llama.context_length", 512],
    ["llama.embedding_length", embedding],
    ["llama.feed_forward_length", ffn],
    ["llama.attention.head_count", kvHeads * group],
    ["llama.attention.head_count_kv", kvHeads],
    ["llama.attention.key_length", headLength],
    ["llama.attention.value_length", headLength],
    ["llama.attention.layer_norm_rms_epsilon", 1e-5],
  ]);
}

function tensorsOf(shape: Shape): GgufTensor[] {
  const { embedding, ffn, vocabulary, layers, kvHeads, group, headLength, types } = shape;
  const place = tensorPlacer();
  const [queries, keys] = [kvHeads * group * headLength, kvHeads * headLength];
  const matrix = (layer: number, stem: string, inputs: number, outputs: number) => [
    place(`blk.${layer}.${stem}.weight`, types[layer % types.length]!, [inputs, outputs]),
    ...(shape.biases ? [place(`blk.${layer}.${stem}.bias`, "F32", [outputs])] : []),
  ];
  const norm = (layer: number, stem: string, length: number) => place(`blk.${layer}.${stem}.weight`, "F32", [length]);
  const layerTensors = (layer: number) => [
    norm(layer, "attn_norm", embedding),
    ...matrix(layer, "attn_q", embedding, queries),
    ...matrix(layer, "attn_k", embedding, keys),
    ...matrix(layer, "attn_v", embedding, keys),
    ...matrix(layer, "attn_output", queries, embedding),
    norm(layer, "attn_q_norm", headLength),
    norm(layer, "attn_k_norm", headLength),
    norm(layer, "ffn_norm", embedding),
    ...matrix(layer, "ffn_gate", embedding, ffn),
    ...matrix(layer, "ffn_up", embedding, ffn),
    ...matrix(layer, "ffn_down", ffn, embedding),
  ];
  return [
    ...Array.from({ length: layers }, (_, layer) => layerTensors(layer)).flat(),
    place("output_norm.weight", "F32", [embedding]),
    place("output.weight", types[0]!, [embedding, vocabulary]),
    ...(shape.ropeFactors ? [place("rope_freqs.weight", "F32", [headLength / 2])] : []),
    place("token_embd.weight", types[0]!, [embedding, vocabulary]),
  ];
}

function tensorPlacer() {
  let end = 1000;
  return (name: string, type: TensorTypeName, shape: number[]): GgufTensor => {
    const bytes = rowBytes(type, shape[0]!) * (shape[1] ?? 1);
    const offset = Math.ceil(end / 32) * 32;
    end = offset + bytes;
    return { name, type, shape, file: 0, offset, bytes };
  };
}
