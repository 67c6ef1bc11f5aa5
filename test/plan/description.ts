import llama from "#stellium/engine/architectures/llama";
import type { Block, ModelDescription } from "#stellium/engine/modelDescription";
import type { GgufTensor } from "#stellium/weights/gguf/model";
import { rowBytes, type TensorTypeName } from "#stellium/weights/gguf/types";

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

/** A description of a llama model with tensors that follow on each other in one file. */
export function describeShape(shape: Shape): ModelDescription & { fileBytes: number } {
  const { embedding, ffn, vocabulary, layers, kvHeads, group, headLength } = shape;
  const place = tensorPlacer();
  const matrixType = (layer: number) => shape.types[layer % shape.types.length]!;
  const queries = kvHeads * group * headLength;
  const keys = kvHeads * headLength;
  const layerBlocks = (layer: number): Block[] => {
    const matrix = (stem: string, inputs: number, outputs: number) => [
      weight(`${stem}.weight`, "matrix", place(`blk.${layer}.${stem}.weight`, matrixType(layer), [inputs, outputs])),
      ...(shape.biases ? [weight(`${stem}.bias`, "vector", place(`blk.${layer}.${stem}.bias`, "F32", [outputs]))] : []),
    ];
    const norm = (role: string, length: number) =>
      weight(role, "vector", place(`blk.${layer}.${role}`, "F32", [length]));
    return [
      {
        kind: "attention",
        layer,
        weights: [
          norm("attn_norm.weight", embedding),
          ...matrix("attn_q", embedding, queries),
          ...matrix("attn_k", embedding, keys),
          ...matrix("attn_v", embedding, keys),
          ...matrix("attn_output", queries, embedding),
          norm("attn_q_norm.weight", headLength),
        ],
      },
      {
        kind: "ffn",
        layer,
        weights: [
          norm("ffn_norm.weight", embedding),
          ...matrix("ffn_gate", embedding, ffn),
          ...matrix("ffn_up", embedding, ffn),
          ...matrix("ffn_down", ffn, embedding),
        ],
      },
    ];
  };
  const blocks = Array.from({ length: layers }, (_, layer) => layerBlocks(layer)).flat();
  blocks.push({
    kind: "head",
    layer: layers,
    weights: [
      weight("output_norm.weight", "vector", place("output_norm.weight", "F32", [embedding])),
      weight("output.weight", "matrix", place("output.weight", matrixType(0), [embedding, vocabulary])),
    ],
  });
  const ropeFactors = shape.ropeFactors ? place("rope_freqs.weight", "F32", [headLength / 2]) : undefined;
  const embeddingTensor = place("token_embd.weight", matrixType(0), [embedding, vocabulary]);
  return {
    files: ["model.gguf"],
    architecture: llama,
    blocks,
    embedding: embeddingTensor,
    ropeFactors,
    fileBytes: embeddingTensor.offset + embeddingTensor.bytes,
    hyperparameters: {
      blockCount: layers,
      contextLength: 512,
      embeddingLength: embedding,
      feedForwardLength: ffn,
      headCount: kvHeads * group,
      headCountKv: kvHeads,
      keyLength: headLength,
      valueLength: headLength,
      vocabularySize: vocabulary,
      rmsEpsilon: 1e-5,
      attentionScale: headLength ** -0.5,
      rope: {
        mode: "norm",
        dimensions: headLength,
        originalContext: 512,
        freqBase: 10_000,
        freqScale: 1,
        extFactor: 0,
        attnFactor: 1,
        betaFast: 32,
        betaSlow: 1,
      },
    },
  };
}

function weight(role: string, kind: "matrix" | "vector", tensor: GgufTensor) {
  return { role, kind, tensor };
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
