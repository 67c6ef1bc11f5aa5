import { fileTypeNumber } from "./types.mjs";
import { vocabularyOf } from "./vocabulary.mjs";

/** GGUF's numbers for metadata types. */
const valueTypes = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 };

/** Tensor data, and each tensor in it, begins at a multiple of this. */
export const alignment = 32;

/** @typedef {{ type: "u32" | "f32", value: number } | { type: "bool", value: boolean } | { type: "string", value: string } | { type: "strings", value: string[] } | { type: "i32s", value: Int32Array<ArrayBuffer> } | { type: "bools", value: boolean[] }} Value */

/** @param {number} value @returns {Value} */
const u32 = (value) => ({ type: "u32", value });
/** @param {number} value @returns {Value} */
const f32 = (value) => ({ type: "f32", value });
/** @param {string} value @returns {Value} */
const string = (value) => ({ type: "string", value });
/** @param {boolean} value @returns {Value} */
const bool = (value) => ({ type: "bool", value });

/**
 * The metadata of a model, by key.
 * @param {string} name
 * @param {import("./shapes.mjs").Shape} shape
 * @param {import("./types.mjs").FileType} fileType
 * @returns {Record<string, Value>}
 */
export function metadataOf(name, shape, fileType) {
  return {
    "general.architecture": string(shape.architecture),
    "general.name": string(`random weights in the shape of ${name}`),
    "general.file_type": u32(fileTypeNumber(fileType)),
    "general.quantization_version": u32(2),
    ...prefixed(shape.architecture, hyperparameters(shape)),
    ...tokenizerOf(shape),
  };
}

/**
 * @param {import("./shapes.mjs").Shape} shape
 * @returns {Record<string, Value>}
 */
function hyperparameters(shape) {
  return {
    block_count: u32(shape.layers + (shape.predictionLayers ?? 0)),
    context_length: u32(shape.context),
    embedding_length: u32(shape.embedding),
    feed_forward_length: u32(shape.feedForward),
    "attention.head_count": u32(shape.heads),
    "attention.head_count_kv": u32(shape.kvHeads),
    "attention.key_length": u32(shape.headSize),
    "attention.value_length": u32(shape.headSize),
    [shape.layerNorm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"]: f32(shape.epsilon),
    vocab_size: u32(shape.vocabulary),
    "rope.dimension_count": u32(shape.ropeDimensions ?? shape.headSize),
    "rope.freq_base": f32(shape.ropeBase),
    ...ropeScaling(shape.ropeScaling),
    ...(shape.latent && latentKeys(shape.latent)),
    ...(shape.experts && expertKeys(shape.experts)),
    ...(shape.predictionLayers && { nextn_predict_layers: u32(shape.predictionLayers) }),
    ...shape.keys,
  };
}

/**
 * Keys are cached as the latent vector and the values that RoPE turned, one head for all.
 * @param {import("./attention.mjs").Latent} latent
 * @returns {Record<string, Value>}
 */
function latentKeys({ queryRank, rank, keySize, ropeSize, valueSize }) {
  return {
    "attention.head_count_kv": u32(1),
    "attention.key_length": u32(rank + ropeSize),
    "attention.value_length": u32(rank),
    "attention.key_length_mla": u32(keySize + ropeSize),
    "attention.value_length_mla": u32(valueSize),
    "attention.kv_lora_rank": u32(rank),
    ...(queryRank && { "attention.q_lora_rank": u32(queryRank) }),
    "rope.dimension_count": u32(ropeSize),
  };
}

/**
 * @param {import("./feedForward.mjs").Experts} experts
 * @returns {Record<string, Value>}
 */
function expertKeys({ count, used, feedForward }) {
  return {
    expert_count: u32(count),
    expert_used_count: u32(used),
    ...(feedForward && { expert_feed_forward_length: u32(feedForward) }),
  };
}

/**
 * @param {import("./shapes.mjs").RopeScaling | undefined} scaling
 * @returns {Record<string, Value>}
 */
function ropeScaling(scaling) {
  if (!scaling || scaling.type === "llama3") return {};
  return {
    "rope.scaling.type": string(scaling.type),
    "rope.scaling.factor": f32(scaling.factor),
    "rope.scaling.original_context_length": u32(scaling.originalContext),
  };
}

/**
 * @param {import("./shapes.mjs").Shape} shape
 * @returns {Record<string, Value>}
 */
function tokenizerOf(shape) {
  const { tokens, merges, types, bos, eos } = vocabularyOf(shape.vocabulary);
  return {
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string(shape.preTokenizer),
    "tokenizer.ggml.tokens": { type: "strings", value: tokens },
    "tokenizer.ggml.token_type": { type: "i32s", value: types },
    "tokenizer.ggml.merges": { type: "strings", value: merges },
    "tokenizer.ggml.bos_token_id": u32(bos),
    "tokenizer.ggml.eos_token_id": u32(eos),
    "tokenizer.ggml.add_bos_token": bool(shape.architecture === "llama"),
  };
}

/**
 * @param {string} prefix
 * @param {Record<string, Value>} values
 */
function prefixed(prefix, values) {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [`${prefix}.${key}`, value]));
}

/**
 * The bytes of a GGUF v3 file up to its first tensor's data, padding included.
 * @param {Record<string, Value>} metadata
 * @param {{ name: string, shape: number[], typeId: number, offset: number }[]} tensors Offsets count from the end of the header.
 * @returns {Buffer<ArrayBuffer>}
 */
export function headerBytes(metadata, tensors) {
  const entries = Object.entries(metadata);
  const parts = [Buffer.from("GGUF"), uint32(3), uint64(tensors.length), uint64(entries.length)];
  for (const [key, value] of entries) parts.push(text(key), Buffer.concat(valueParts(value)));
  for (const tensor of tensors) parts.push(...tensorParts(tensor));
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat(parts, Math.ceil(length / alignment) * alignment);
}

/** @param {Value} value */
function valueParts(value) {
  if (value.type === "strings") {
    return [uint32(valueTypes.array), uint32(valueTypes.string), uint64(value.value.length), ...value.value.map(text)];
  }
  if (value.type === "i32s") {
    const { buffer, length } = value.value;
    return [uint32(valueTypes.array), uint32(valueTypes.i32), uint64(length), Buffer.from(buffer)];
  }
  if (value.type === "bools") {
    const { length } = value.value;
    return [uint32(valueTypes.array), uint32(valueTypes.bool), uint64(length), Buffer.from(value.value.map(Number))];
  }
  return [uint32(valueTypes[value.type]), scalar(value)];
}

/** @param {Exclude<Value, { type: "strings" | "i32s" | "bools" }>} value */
function scalar(value) {
  if (value.type === "string") return text(value.value);
  if (value.type === "bool") return Buffer.from([Number(value.value)]);
  return value.type === "u32" ? uint32(value.value) : Buffer.from(Float32Array.of(value.value).buffer);
}

/** @param {{ name: string, shape: number[], typeId: number, offset: number }} tensor */
function tensorParts({ name, shape, typeId, offset }) {
  return [text(name), uint32(shape.length), ...shape.map(uint64), uint32(typeId), uint64(offset)];
}

/** @param {string} value */
function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

/** @param {number} value */
function uint32(value) {
  return Buffer.from(Uint32Array.of(value).buffer);
}

/** @param {number} value */
function uint64(value) {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
}
