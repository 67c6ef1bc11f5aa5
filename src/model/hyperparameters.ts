import { unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture, Sliding } from "./architecture.ts";
import { type Keys, keysOf, scaleOf } from "./keys.ts";
import { checkScaling, latentScale, type RopeParameters, ropeParameters } from "./rope.ts";
import { type Routing, routingOf } from "./routing.ts";

/** Makes the embedding of a text from its hidden states: their mean, the first (`cls`), or the last one. */
export type Pooling = "mean" | "cls" | "last";

/** A norm over the values of a vector. */
export interface NormParameters {
  readonly kind: NonNullable<Architecture["norm"]>;
  readonly epsilon: number;
}

/** Layers that see only a window of tokens. */
export interface SlidingWindow {
  /** Tokens that a token sees, itself included. */
  readonly tokens: number;
  /** By layer: whether it has the window. */
  readonly layers: readonly boolean[];
  readonly rope: RopeParameters;
  /** Values of a head of such a layer. */
  readonly keyLength: number;
  readonly valueLength: number;
}

/** Queries of tokens from `length` on are larger: times 1 + scale * log(1 + floor(position / length)). */
export interface TemperatureScale {
  readonly scale: number;
  readonly length: number;
}

/** Attention whose heads make keys and values from one vector per token, which is cached in their place (MLA). */
export interface LatentParameters {
  /** Length of that vector, without the values of the key that RoPE turns. */
  readonly rank: number;
  /** Length of the vector that queries are made from; 0: they are made from the hidden states. */
  readonly queryRank: number;
}

/** A model's dimensions and factors, from GGUF keys of the same names. Absent factors change nothing. */
export interface Hyperparameters {
  readonly blockCount: number;
  readonly contextLength: number;
  readonly embeddingLength: number;
  /** Feed-forward columns of each layer, and the largest number that divides all of these. */
  readonly feedForwardLengths: readonly number[];
  readonly feedForwardLength: number;
  readonly headCount: number;
  /** KV heads of each layer, and the largest number that divides all of these. */
  readonly headCountsKv: readonly number[];
  readonly headCountKv: number;
  /** Values of a head's key, and of its value; of layers that see everything, if there are others. */
  readonly keyLength: number;
  readonly valueLength: number;
  /** By layer: the layer whose keys and values it reads, itself or an earlier one. */
  readonly cellLayers: readonly number[];
  /** Undefined if each KV head has keys and values of its own. */
  readonly latent: LatentParameters | undefined;
  /** Values of the embedding that a token has for each layer besides; 0: it has none. */
  readonly perLayerLength: number;
  readonly vocabularySize: number;
  readonly norm: NormParameters;
  /** Factor on Q.K before the softmax. */
  readonly attentionScale: number;
  readonly attentionSoftcap: number;
  readonly temperature: TemperatureScale | undefined;
  readonly rope: RopeParameters;
  /** True if any layer has RoPE. */
  readonly turns: boolean;
  readonly sliding: SlidingWindow | undefined;
  readonly embeddingScale: number;
  readonly residualScale: number;
  /** Factor on the logits, and what they are capped at softly after that; 0: not. */
  readonly logitScale: number;
  readonly logitSoftcap: number;
  readonly pooling: Pooling;
  /** Undefined if the model is no mixture of experts. */
  readonly routing: Routing | undefined;
}

/** Values that enter a pass with each token: its embedding, and those for each layer. */
export function inputValues(h: Pick<Hyperparameters, "embeddingLength" | "perLayerLength" | "blockCount">): number {
  return h.embeddingLength + h.perLayerLength * h.blockCount;
}

/** Tokens whose embeddings for layers are computed together: enough to make use of a matrix that is read once for them. */
export const jointInputs = 64;

/** True if no layer after this one keeps keys: from then on, only tokens with outputs are computed. */
export function keepsLast({ cellLayers }: Pick<Hyperparameters, "cellLayers">, layer: number): boolean {
  return layer >= Math.max(...cellLayers);
}

/** Reads and checks a model's hyperparameters. Throws `MODEL_UNSUPPORTED`. */
export function readHyperparameters(model: GgufModel, architecture: Architecture): Hyperparameters {
  const keys = keysOf(model);
  const headCount = keys.uniform("attention.head_count");
  const embeddingLength = keys.count("embedding_length");
  const latent = latentParameters(model, keys, architecture);
  const blockCount = layerCount(model, keys);
  if (blockCount > model.tensors.size) {
    throw unsupportedModel(model, `it is to have ${blockCount} layers, and has ${model.tensors.size} tensors`);
  }
  const heads = headParameters(keys, latent, { blockCount, headCount, usual: embeddingLength / headCount });
  const { keyLength: headLength } = heads;
  const rope = ropeParameters(model, keys, architecture, headLength);
  const sliding = slidingWindow(model, keys, architecture, { blockCount, rope, ...heads });
  const feedForwardLengths = keys.ofLayers("feed_forward_length", blockCount);
  const hyperparameters = {
    blockCount,
    contextLength: keys.count("context_length"),
    embeddingLength,
    feedForwardLengths,
    feedForwardLength: commonDivisor(feedForwardLengths),
    headCount,
    ...heads,
    headCountKv: commonDivisor(heads.headCountsKv),
    cellLayers: cellLayers(model, keys, architecture, heads.headCountsKv, sliding),
    latent,
    perLayerLength: perLayerLength(keys, architecture),
    vocabularySize: vocabularySize(model),
    norm: normParameters(keys, architecture),
    rope,
    sliding,
    ...factors(keys, architecture, { blockCount, embeddingLength, headCount, headLength }),
    ...(latent && { attentionScale: latentScale(keys, rope, headLength) }),
    temperature: temperatureScale(keys, architecture, rope),
    turns: !(architecture.ropeSwitch && keys.isFalse("rope.scaling.finetuned")),
    pooling: poolingOf(model, keys),
    routing: routingOf(model, keys, architecture, vocabularySize(model)),
  };
  if (keys.isFalse("attention.causal"))
    throw unsupportedModel(model, "its tokens see those that follow, to embed texts only");
  checkScaling(model, keys, architecture);
  checkDimensions(model, hyperparameters);
  return hyperparameters;
}

/** Undefined if the architecture has no such attention. */
function latentParameters(model: GgufModel, keys: Keys, { layer = [] }: Architecture): LatentParameters | undefined {
  if (!layer.includes("latentAttention")) return undefined;
  const missing = latentLengths.find((key) => keys.optionalNumber(key) === undefined);
  if (missing !== undefined) throw unsupportedModel(model, `it has no ${missing}: it needs to be converted again`);
  const queryRank = "attention.q_lora_rank";
  return {
    rank: keys.count("attention.kv_lora_rank"),
    queryRank: keys.optionalNumber(queryRank) ? keys.count(queryRank) : 0,
  };
}

/** Lengths of a key and a value of one head. Files from before these keys also have other tensors. */
const latentLengths = ["attention.key_length_mla", "attention.value_length_mla"] as const;

/** @param usual - values of a head if the model does not say */
function headParameters(
  keys: Keys,
  latent: LatentParameters | undefined,
  { blockCount, headCount, usual }: { blockCount: number; headCount: number; usual: number },
) {
  if (latent !== undefined) {
    // `head_count_kv`, `key_length` and `value_length` are those of what is cached.
    const [keyLength, valueLength] = latentLengths.map(keys.count) as [number, number];
    return { headCountsKv: Array<number>(blockCount).fill(headCount), keyLength, valueLength };
  }
  return {
    headCountsKv: keys.ofLayers("attention.head_count_kv", blockCount, headCount),
    keyLength: keys.optionalCount("attention.key_length") ?? usual,
    valueLength: keys.optionalCount("attention.value_length") ?? usual,
  };
}

/** Layers without those at the end that guess further tokens. */
function layerCount(model: GgufModel, keys: Keys): number {
  const [all, guessing] = [keys.count("block_count"), keys.optionalNumber("nextn_predict_layers") ?? 0];
  if (Number.isInteger(guessing) && guessing >= 0 && guessing < all) return all - guessing;
  throw unsupportedModel(model, `${guessing} of its ${all} layers are to guess further tokens`);
}

/** Poolings as llama.cpp numbers them. A model that states none gets the mean. */
const poolings: readonly Pooling[] = ["mean", "mean", "cls", "last"];

function poolingOf(model: GgufModel, keys: Keys): Pooling {
  const type = keys.optionalNumber("pooling_type") ?? 0;
  const pooling = poolings[type];
  if (pooling !== undefined) return pooling;
  throw unsupportedModel(model, `its pooling_type is ${type}, which is not one of 0 to ${poolings.length - 1}`);
}

function normParameters(keys: Keys, { norm: kind = "rms" }: Architecture): NormParameters {
  const key = kind === "rms" ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  return { kind, epsilon: keys.number(key) };
}

interface Dimensions {
  readonly blockCount: number;
  readonly embeddingLength: number;
  readonly headCount: number;
  readonly headLength: number;
}

/** Factors and caps; those that an architecture does not have are not read. */
function factors(keys: Keys, architecture: Architecture, dimensions: Dimensions) {
  const { softcaps, residualScale, logitScale, embeddingScale } = architecture;
  const { blockCount, embeddingLength, headCount, headLength } = dimensions;
  const perHead = architecture.scaleByEmbeddingAt === blockCount ? embeddingLength / headCount : headLength;
  const logits = logitScale === undefined ? 1 : keys.optionalNumber("logit_scale") || 1;
  return {
    attentionScale: attentionScale(keys, architecture, 1 / Math.sqrt(perHead)),
    attentionSoftcap: capOf(keys, softcaps?.attention, "attn_logit_softcapping"),
    logitSoftcap: capOf(keys, softcaps?.logits, "final_logit_softcapping"),
    embeddingScale:
      embeddingScale === "root" ? Math.sqrt(embeddingLength) : scaleOf(keys, embeddingScale, "embedding_scale"),
    residualScale: scaleOf(keys, residualScale, "residual_scale"),
    logitScale: logitScale === "divide" ? 1 / logits : logits,
  };
}

function attentionScale(keys: Keys, { attentionScale: scale }: Architecture, otherwise: number): number {
  return typeof scale === "number" ? scale : scaleOf(keys, scale, "attention.scale", otherwise);
}

/** @param usual - without the key; undefined if the architecture has no such cap */
function capOf(keys: Keys, usual: number | undefined, key: string): number {
  return usual === undefined ? 0 : (keys.optionalNumber(key) ?? usual);
}

function temperatureScale(
  keys: Keys,
  { temperatureScale: from }: Architecture,
  { originalContext }: RopeParameters,
): TemperatureScale | undefined {
  const scale = from === undefined ? 0 : (keys.optionalNumber("attention.temperature_scale") ?? 0);
  if (scale === 0) return undefined;
  return { scale, length: from === "key" ? keys.count("attention.temperature_length") : originalContext };
}

/** The largest number that divides all of them. */
export function commonDivisor(counts: readonly number[]): number {
  const ofTwo = (a: number, b: number): number => (b === 0 ? a : ofTwo(b, a % b));
  return counts.reduce(ofTwo, 0);
}

/** The layer whose keys and values each layer reads: of those that have none, the last one of its kind that has some. */
function cellLayers(
  model: GgufModel,
  keys: Keys,
  { sharedCells = false }: Architecture,
  headCountsKv: readonly number[],
  sliding: SlidingWindow | undefined,
): number[] {
  const shared = (sharedCells && keys.optionalNumber("attention.shared_kv_layers")) || 0;
  if (shared === 0) return headCountsKv.map((_, layer) => layer);
  const own = headCountsKv.length - shared;
  const { [own - 2]: first, [own - 1]: second } = sliding?.layers ?? [];
  if (shared < 0 || first !== true || second !== false) {
    const reason = `its last ${shared} layers are to share the keys of a sliding layer and of the one after it`;
    throw unsupportedModel(model, reason);
  }
  const layers = headCountsKv.map((_, layer) => (layer < own ? layer : own - (sliding!.layers[layer] ? 2 : 1)));
  const odd = layers.find((source, layer) => headCountsKv[source] !== headCountsKv[layer]);
  if (odd === undefined) return layers;
  throw unsupportedModel(model, `layers that share the keys of layer ${odd} have another number of KV heads`);
}

function perLayerLength(keys: Keys, { layer = [] }: Architecture): number {
  const key = "embedding_length_per_layer_input";
  return layer.includes("perLayer") && keys.optionalNumber(key) !== 0 ? keys.count(key) : 0;
}

function vocabularySize(model: GgufModel): number {
  const embedding = model.tensors.get("token_embd.weight");
  if (embedding?.shape.length === 2) return embedding.shape[1]!;
  throw unsupportedModel(model, "it has no tensor token_embd.weight of two dimensions");
}

/** The window of an architecture's sliding layers; undefined if the model sees everything everywhere. */
function slidingWindow(
  model: GgufModel,
  keys: Keys,
  { sliding }: Architecture,
  others: Pick<Hyperparameters, "blockCount" | "rope" | "keyLength" | "valueLength">,
): SlidingWindow | undefined {
  const { blockCount, rope } = others;
  if (sliding?.onlyOf !== undefined && sliding.onlyOf !== blockCount) return undefined;
  const tokens = sliding && (keys.optionalNumber("attention.sliding_window") ?? sliding.window ?? 0);
  if (!tokens) return undefined;
  const layers = slidingLayers(model, keys, sliding, blockCount);
  return {
    tokens: keys.checkedCount("attention.sliding_window", tokens),
    layers,
    rope: slidingRope(keys, sliding, rope),
    keyLength: keys.optionalCount("attention.key_length_swa") ?? others.keyLength,
    valueLength: keys.optionalCount("attention.value_length_swa") ?? others.valueLength,
  };
}

function slidingLayers(model: GgufModel, keys: Keys, sliding: Sliding, blockCount: number): boolean[] {
  const name = "attention.sliding_window_pattern";
  const given = keys.values(name);
  if (given !== undefined && given.length < blockCount) {
    throw unsupportedModel(model, `${name} has ${given.length} values for ${blockCount} layers`);
  }
  const period = given === undefined ? (keys.optionalNumber(name) ?? sliding.period) : 0;
  if (period === undefined) throw unsupportedModel(model, `it has no ${name}, which says what layers have a window`);
  const inPattern = (layer: number) => period === 0 || layer % period < period - 1;
  return Array.from({ length: blockCount }, (_, layer) => (given ? given[layer] !== 0 : inPattern(layer)));
}

function slidingRope(keys: Keys, sliding: Sliding, rope: RopeParameters): RopeParameters {
  const { ropeBase, ropeUnscaled, ropeFactorless = false } = sliding;
  const usual = typeof ropeBase === "number" ? ropeBase : rope.freqBase;
  const freqBase = ropeBase === undefined ? usual : (keys.optionalNumber("rope.freq_base_swa") ?? usual);
  const dimensions = keys.optionalCount("rope.dimension_count_swa") ?? rope.dimensions;
  const scaled = { ...rope, dimensions, freqBase, factors: !ropeFactorless };
  if (ropeUnscaled === undefined) return scaled;
  return { ...scaled, freqScale: 1, ...(ropeUnscaled === "all" && { extFactor: 0, attnFactor: 1 }) };
}

function checkDimensions(model: GgufModel, h: Hyperparameters): void {
  const demand = (fits: boolean, reason: string) => {
    if (!fits) throw unsupportedModel(model, reason);
  };
  const uneven = h.headCountsKv.find((count) => h.headCount % count !== 0);
  demand(uneven === undefined, `its ${h.headCount} heads do not divide among ${uneven} KV heads`);
  demand(Number.isInteger(h.keyLength), `its ${h.headCount} heads do not divide ${h.embeddingLength} values`);
  for (const { keyLength, valueLength, rope } of h.sliding === undefined ? [h] : [h, h.sliding]) {
    const alike = h.latent !== undefined || keyLength === valueLength;
    demand(alike, `its keys have ${keyLength} values a head, its values ${valueLength}`);
    demand(keyLength % 2 === 0, `its heads have ${keyLength} values, an odd number`);
    const { dimensions, freqBase, freqScale, sections = [] } = rope;
    const mostTurned = h.latent === undefined ? keyLength : keyLength - 1;
    demand(dimensions % 2 === 0 && dimensions <= mostTurned, `RoPE turns ${dimensions} of ${keyLength} values a head`);
    const pairs = sections.reduce((sum, count) => sum + count, 0);
    demand(pairs <= keyLength, `its RoPE sections have ${pairs} pairs, its heads ${keyLength} values`);
    demand(freqBase > 0 && freqScale > 0 && freqScale <= 1, `its RoPE base is ${freqBase} and its scale ${freqScale}`);
  }
  const scales = h.attentionScale > 0 && Number.isFinite(h.attentionScale);
  demand(scales, `the scale of its attention is ${h.attentionScale}`);
  const { epsilon } = h.norm;
  demand(epsilon >= 0 && epsilon < 1, `the epsilon of its norms is ${epsilon}`);
}
