import { StelliumError } from "../errors.ts";
import { getNumber, getNumberArray, getString, requireNumber } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture } from "./architecture.ts";

/** Parameters of ggml's `ggml_rope_ext`. */
export interface RopeParameters {
  readonly mode: Architecture["rope"];
  /** How many values of a head are turned. */
  readonly dimensions: number;
  readonly originalContext: number;
  readonly freqBase: number;
  readonly freqScale: number;
  readonly extFactor: number;
  readonly attnFactor: number;
  readonly betaFast: number;
  readonly betaSlow: number;
}

/** A model's dimensions, from GGUF keys of the same names. */
export interface Hyperparameters {
  readonly blockCount: number;
  readonly contextLength: number;
  readonly embeddingLength: number;
  readonly feedForwardLength: number;
  readonly headCount: number;
  readonly headCountKv: number;
  readonly keyLength: number;
  readonly valueLength: number;
  readonly vocabularySize: number;
  readonly rmsEpsilon: number;
  /** Factor on Q.K before the softmax. */
  readonly attentionScale: number;
  readonly rope: RopeParameters;
}

const most = 1 << 24;

/** Reads and checks a model's hyperparameters. Throws `MODEL_UNSUPPORTED`. */
export function readHyperparameters(model: GgufModel, architecture: Architecture): Hyperparameters {
  const keys = keysOf(model);
  const headCount = keys.uniform("attention.head_count");
  const embeddingLength = keys.count("embedding_length");
  const headLength = keys.optionalCount("attention.key_length") ?? embeddingLength / headCount;
  const hyperparameters = {
    blockCount: keys.count("block_count"),
    contextLength: keys.count("context_length"),
    embeddingLength,
    feedForwardLength: keys.uniform("feed_forward_length"),
    headCount,
    headCountKv: keys.optionalUniform("attention.head_count_kv") ?? headCount,
    keyLength: headLength,
    valueLength: keys.optionalCount("attention.value_length") ?? embeddingLength / headCount,
    vocabularySize: vocabularySize(model),
    rmsEpsilon: keys.number("attention.layer_norm_rms_epsilon"),
    attentionScale: keys.optionalNumber("attention.scale") || 1 / Math.sqrt(headLength),
    rope: ropeParameters(keys, architecture, headLength),
  };
  checkDimensions(model, hyperparameters);
  return hyperparameters;
}

type Keys = ReturnType<typeof keysOf>;

/** Accessors to a model's keys `ARCHITECTURE.*`. */
function keysOf(model: GgufModel) {
  const prefix = `${getString(model, "general.architecture")}.`;
  const count = (key: string, value: number) => {
    if (Number.isInteger(value) && value > 0 && value <= most) return value;
    throw unsupported(model, `${prefix}${key} is ${value}, not a count from 1 to ${most}`);
  };
  const optionalUniform = (key: string) => {
    const value = uniformNumber(model, prefix + key);
    return value === undefined ? undefined : count(key, value);
  };
  return {
    number: (key: string) => requireNumber(model, prefix + key),
    optionalNumber: (key: string) => getNumber(model, prefix + key),
    string: (key: string) => getString(model, prefix + key),
    count: (key: string) => count(key, requireNumber(model, prefix + key)),
    optionalCount(key: string) {
      const value = getNumber(model, prefix + key);
      return value === undefined ? undefined : count(key, value);
    },
    optionalUniform,
    uniform: (key: string) => optionalUniform(key) ?? count(key, requireNumber(model, prefix + key)),
  };
}

/** A number, or an array of one number for every layer, which have to be equal. */
function uniformNumber(model: GgufModel, key: string): number | undefined {
  if (typeof model.metadata.get(key) !== "object") return getNumber(model, key);
  const values = [...new Set(getNumberArray(model, key))];
  if (values.length === 1) return values[0];
  throw unsupported(model, `${key} differs between layers (${values.slice(0, 4).join(", ")} ...)`);
}

function vocabularySize(model: GgufModel): number {
  const embedding = model.tensors.get("token_embd.weight");
  if (embedding?.shape.length === 2) return embedding.shape[1]!;
  throw unsupported(model, "it has no tensor token_embd.weight of two dimensions");
}

/** RoPE with linear or YaRN scaling, as llama.cpp reads the keys (`llama_context::llama_context`). */
function ropeParameters(keys: Keys, architecture: Architecture, headLength: number): RopeParameters {
  const scaling = keys.string("rope.scaling.type") ?? "linear";
  const factor = keys.optionalNumber("rope.scaling.factor") || keys.optionalNumber("rope.scale_linear") || 1;
  const yarn = scaling === "yarn";
  return {
    mode: architecture.rope,
    dimensions: keys.optionalCount("rope.dimension_count") ?? headLength,
    originalContext: keys.optionalCount("rope.scaling.original_context_length") ?? keys.count("context_length"),
    freqBase: keys.optionalNumber("rope.freq_base") ?? 10_000,
    freqScale: scaling === "none" ? 1 : 1 / factor,
    extFactor: keys.optionalNumber("rope.scaling.yarn_ext_factor") ?? (yarn ? 1 : 0),
    attnFactor: (keys.optionalNumber("rope.scaling.attn_factor") ?? 1) * (yarn ? yarnAttention(keys, factor) : 1),
    betaFast: keys.optionalNumber("rope.scaling.yarn_beta_fast") ?? 32,
    betaSlow: keys.optionalNumber("rope.scaling.yarn_beta_slow") ?? 1,
  };
}

/**
 * The YaRN factor on attention that is to be handed to ggml, which multiplies by `1 + 0.1 ln(factor)` itself
 * (https://github.com/ggml-org/llama.cpp/pull/17945).
 */
function yarnAttention(keys: Keys, factor: number): number {
  const mscale = (multiplier: number) => (factor <= 1 ? 1 : 0.1 * multiplier * Math.log(factor) + 1);
  const multiplier = keys.optionalNumber("rope.scaling.yarn_log_multiplier") ?? 0;
  const wanted = multiplier === 0 ? mscale(1) : mscale(1) / mscale(multiplier);
  return wanted / (1 + 0.1 * Math.log(factor));
}

function checkDimensions(model: GgufModel, h: Hyperparameters): void {
  const demand = (fits: boolean, reason: string) => {
    if (!fits) throw unsupported(model, reason);
  };
  demand(h.headCount % h.headCountKv === 0, `its ${h.headCount} heads do not divide among ${h.headCountKv} KV heads`);
  demand(Number.isInteger(h.keyLength), `its ${h.headCount} heads do not divide ${h.embeddingLength} values`);
  demand(h.keyLength === h.valueLength, `its keys have ${h.keyLength} values a head, its values ${h.valueLength}`);
  demand(h.keyLength % 2 === 0, `its heads have ${h.keyLength} values, an odd number`);
  const { dimensions, freqBase, freqScale } = h.rope;
  demand(dimensions % 2 === 0 && dimensions <= h.keyLength, `RoPE turns ${dimensions} of ${h.keyLength} values a head`);
  demand(freqBase > 0 && freqScale > 0 && freqScale <= 1, `its RoPE base is ${freqBase} and its scale ${freqScale}`);
  demand(h.rmsEpsilon >= 0 && h.rmsEpsilon < 1, `its RMS epsilon is ${h.rmsEpsilon}`);
  const scaling = getString(model, `${getString(model, "general.architecture")}.rope.scaling.type`) ?? "none";
  demand(["none", "linear", "yarn"].includes(scaling), `its RoPE scaling is ${scaling}, not none, linear or yarn`);
}

function unsupported(model: GgufModel, reason: string): StelliumError {
  return new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? "the model", reason });
}
