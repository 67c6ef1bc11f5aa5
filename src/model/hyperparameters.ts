import { StelliumError } from "../errors.ts";
import { getNumber, getNumberArray, getString, requireNumber } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture, Gating, RopeMode, Sliding } from "./architecture.ts";

/** Parameters of ggml's `ggml_rope_ext`. */
export interface RopeParameters {
  readonly mode: RopeMode;
  /** Pairs of values that are turned by each of four positions; undefined if all are turned by one. */
  readonly sections: readonly number[] | undefined;
  /** How many values of a head are turned. */
  readonly dimensions: number;
  readonly originalContext: number;
  readonly freqBase: number;
  readonly freqScale: number;
  readonly extFactor: number;
  readonly attnFactor: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  /** False if the model's tensors of factors on frequencies do not apply. */
  readonly factors: boolean;
}

/** Numbers that say where a token is: one, or the four that sections of RoPE turn by. */
export function positionChannels({ sections }: RopeParameters): number {
  return sections === undefined ? 1 : mostSections;
}

const mostSections = 4;

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

/** How a mixture of experts chooses, and weights what it has chosen. */
export interface Routing {
  /** Experts of a layer, and those that each token gets. */
  readonly count: number;
  readonly used: number;
  readonly gating: Gating;
  /** True if the weights of the chosen ones are divided by their sum. */
  readonly normalized: boolean;
  /** Factor on the weights. */
  readonly scale: number;
  /** Groups that experts are in, and those that a token chooses from; 1: there are none. */
  readonly groups: number;
  readonly groupsUsed: number;
}

/** As many as llama.cpp takes. */
const mostExperts = 1024;

const most = 1 << 24;

/** Reads and checks a model's hyperparameters. Throws `MODEL_UNSUPPORTED`. */
export function readHyperparameters(model: GgufModel, architecture: Architecture): Hyperparameters {
  const keys = keysOf(model);
  const headCount = keys.uniform("attention.head_count");
  const embeddingLength = keys.count("embedding_length");
  const latent = latentParameters(model, keys, architecture);
  const blockCount = layerCount(model, keys);
  if (blockCount > model.tensors.size) {
    throw unsupported(model, `it is to have ${blockCount} layers, and has ${model.tensors.size} tensors`);
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
    routing: routingOf(model, keys, architecture),
  };
  if (keys.isFalse("attention.causal"))
    throw unsupported(model, "its tokens see those that follow, to embed texts only");
  checkScaling(model, keys, architecture);
  checkDimensions(model, hyperparameters);
  return hyperparameters;
}

/** Gatings as llama.cpp numbers them. */
const gatings: readonly (Gating | undefined)[] = [undefined, "softmax", "sigmoid", "softmaxOfChosen"];

function routingOf(model: GgufModel, keys: Keys, { name, experts: facts }: Architecture): Routing | undefined {
  const count = keys.optionalNumber("expert_count") ?? 0;
  if (count === 0) return undefined;
  if (facts === undefined)
    throw unsupported(model, `it is a mixture of ${count} experts, which do not run in the architecture ${name}`);
  const { gating = "softmax", normalized = false, sigmoidAt } = facts;
  const usesSigmoid =
    sigmoidAt?.layers.includes(keys.count("block_count")) && sigmoidAt.vocabulary === vocabularySize(model);
  const number = facts.gatingByKey ? (keys.optionalNumber("expert_gating_func") ?? 0) : 0;
  const routing = {
    count: keys.count("expert_count"),
    used: keys.uniform("expert_used_count"),
    gating: number === 0 ? (usesSigmoid ? "sigmoid" : gating) : gatings[number],
    normalized: normalized === "key" ? keys.isTrue("expert_weights_norm") : normalized,
    scale: scaleOf(keys, facts.scaled, "expert_weights_scale"),
    groups: keys.optionalNumber("expert_group_count") || 1,
    groupsUsed: keys.optionalNumber("expert_group_used_count") || 1,
  };
  if (routing.gating === undefined) throw unsupported(model, `its expert_gating_func is ${number}, which is not known`);
  checkRouting(model, routing);
  return { ...routing, gating: routing.gating };
}

function checkRouting(model: GgufModel, { count, used, groups, groupsUsed }: Omit<Routing, "gating">): void {
  const demand = (fits: boolean, reason: string) => {
    if (!fits) throw unsupported(model, reason);
  };
  demand(count > 1 && count <= mostExperts, `it has ${count} experts, where there may be 2 to ${mostExperts}`);
  demand(used <= count, `${used} of its ${count} experts are to be used`);
  if (groups === 1) return;
  const [least, whole] = [count / groups >= 2, Number.isInteger(groups) && groups > 0 && count % groups === 0];
  demand(whole && least, `its ${count} experts do not divide into ${groups} groups of two or more`);
  const some = Number.isInteger(groupsUsed) && groupsUsed > 0 && groupsUsed < groups;
  demand(some, `${groupsUsed} of its ${groups} groups of experts are to be used`);
  demand((count / groups) * groupsUsed >= used, `its groups leave fewer than ${used} experts to choose from`);
}

/** Undefined if the architecture has no such attention. */
function latentParameters(model: GgufModel, keys: Keys, { layer = [] }: Architecture): LatentParameters | undefined {
  if (!layer.includes("latentAttention")) return undefined;
  const missing = latentLengths.find((key) => keys.optionalNumber(key) === undefined);
  if (missing !== undefined) throw unsupported(model, `it has no ${missing}: it needs to be converted again`);
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

/** YaRN makes the scores larger as well (https://github.com/ggml-org/llama.cpp/discussions/7416). Rounds like llama.cpp. */
function latentScale(keys: Keys, { attnFactor, freqScale }: RopeParameters, keyLength: number): number {
  const { fround } = Math;
  const ownFactor = fround(fround(attnFactor) * yarnGrowth(1, freqScale));
  const factor = fround(ownFactor * yarnGrowth(fround(logMultiplier(keys) / fround(0.1)), freqScale));
  return fround(factor ** 2) / fround(Math.sqrt(keyLength));
}

/** Layers without those at the end that guess further tokens. */
function layerCount(model: GgufModel, keys: Keys): number {
  const [all, guessing] = [keys.count("block_count"), keys.optionalNumber("nextn_predict_layers") ?? 0];
  if (Number.isInteger(guessing) && guessing >= 0 && guessing < all) return all - guessing;
  throw unsupported(model, `${guessing} of its ${all} layers are to guess further tokens`);
}

/** Poolings as llama.cpp numbers them. A model that states none gets the mean. */
const poolings: readonly Pooling[] = ["mean", "mean", "cls", "last"];

function poolingOf(model: GgufModel, keys: Keys): Pooling {
  const type = keys.optionalNumber("pooling_type") ?? 0;
  const pooling = poolings[type];
  if (pooling !== undefined) return pooling;
  throw unsupported(model, `its pooling_type is ${type}, which is not one of 0 to ${poolings.length - 1}`);
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

function scaleOf(keys: Keys, wanted: unknown, key: string, otherwise = 1): number {
  return (wanted ? keys.optionalNumber(key) : 0) || otherwise;
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
    isTrue: (key: string) => model.metadata.get(prefix + key) === true,
    isFalse: (key: string) => model.metadata.get(prefix + key) === false,
    count: (key: string) => count(key, requireNumber(model, prefix + key)),
    optionalCount(key: string) {
      const value = getNumber(model, prefix + key);
      return value === undefined ? undefined : count(key, value);
    },
    checkedCount: count,
    /** The numbers of an array of one for each layer; undefined if there is no array. */
    values(key: string): readonly number[] | undefined {
      const value = model.metadata.get(prefix + key);
      return typeof value === "object" ? Array.from(value as ArrayLike<unknown>, Number) : undefined;
    },
    uniform: (key: string) => optionalUniform(key) ?? count(key, requireNumber(model, prefix + key)),
    /** A count for each layer, from an array or one number. */
    ofLayers(key: string, layers: number, otherwise?: number): readonly number[] {
      const given = this.values(key) ?? [
        getNumber(model, prefix + key) ?? otherwise ?? requireNumber(model, prefix + key),
      ];
      const counts = new Set(given).size === 1 ? Array<number>(layers).fill(given[0]!) : given.slice(0, layers);
      if (counts.length === layers) return counts.map((value) => count(key, value));
      throw unsupported(model, `${prefix}${key} has ${given.length} values for ${layers} layers`);
    },
  };
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
    throw unsupported(model, reason);
  }
  const layers = headCountsKv.map((_, layer) => (layer < own ? layer : own - (sliding!.layers[layer] ? 2 : 1)));
  const odd = layers.find((source, layer) => headCountsKv[source] !== headCountsKv[layer]);
  if (odd === undefined) return layers;
  throw unsupported(model, `layers that share the keys of layer ${odd} have another number of KV heads`);
}

function perLayerLength(keys: Keys, { layer = [] }: Architecture): number {
  const key = "embedding_length_per_layer_input";
  return layer.includes("perLayer") && keys.optionalNumber(key) !== 0 ? keys.count(key) : 0;
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
    throw unsupported(model, `${name} has ${given.length} values for ${blockCount} layers`);
  }
  const period = given === undefined ? (keys.optionalNumber(name) ?? sliding.period) : 0;
  if (period === undefined) throw unsupported(model, `it has no ${name}, which says what layers have a window`);
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

/** RoPE with linear or YaRN scaling, as llama.cpp reads the keys (`llama_context::llama_context`). */
function ropeParameters(model: GgufModel, keys: Keys, architecture: Architecture, headLength: number): RopeParameters {
  const scaling = keys.string("rope.scaling.type") ?? "linear";
  const factor = keys.optionalNumber("rope.scaling.factor") || keys.optionalNumber("rope.scale_linear") || 1;
  const yarn = scaling === "yarn";
  return {
    ...ropeMode(model, keys, architecture),
    dimensions: keys.optionalCount("rope.dimension_count") ?? headLength,
    originalContext: keys.optionalCount("rope.scaling.original_context_length") ?? keys.count("context_length"),
    freqBase: keys.optionalNumber("rope.freq_base") ?? 10_000,
    freqScale: scaling === "none" ? 1 : 1 / factor,
    extFactor: keys.optionalNumber("rope.scaling.yarn_ext_factor") ?? (yarn ? 1 : 0),
    attnFactor:
      (keys.optionalNumber("rope.scaling.attn_factor") ?? 1) *
      (yarn ? yarnAttention(keys, architecture, 1 / factor) : 1),
    betaFast: keys.optionalNumber("rope.scaling.yarn_beta_fast") ?? 32,
    betaSlow: keys.optionalNumber("rope.scaling.yarn_beta_slow") ?? 1,
    factors: true,
  };
}

/** The mode of RoPE, with its sections if it has some. */
function ropeMode(model: GgufModel, keys: Keys, { rope, ropeInSections }: Architecture) {
  const key = "rope.dimension_sections";
  const sections = keys.values(key);
  const mode = sections === undefined ? rope : (ropeInSections ?? rope);
  if (mode === "norm" || mode === "neox") return { mode, sections: undefined };
  if (sections?.length === mostSections && sections.every(isSection) && sections.slice(0, 3).some(Boolean)) {
    return { mode, sections };
  }
  throw unsupported(model, `its ${key} are ${sections?.join(", ") ?? "missing"}, not ${mostSections} numbers of pairs`);
}

function isSection(pairs: number): boolean {
  return Number.isInteger(pairs) && pairs >= 0 && pairs <= 1024;
}

/**
 * The YaRN factor on attention that is to be handed to ggml, which multiplies by `1 + 0.1 ln(factor)` itself
 * (https://github.com/ggml-org/llama.cpp/pull/17945). Latent attention has the multiplier in its scale instead.
 */
function yarnAttention(keys: Keys, { layer = [] }: Architecture, freqScale: number): number {
  const multiplier = logMultiplier(keys);
  const growth = yarnGrowth(1, freqScale);
  const divisor = layer.includes("latentAttention") ? growth : yarnGrowth(multiplier, freqScale);
  const wanted = multiplier === 0 ? growth : Math.fround(growth / divisor);
  return Math.fround(wanted * Math.fround(1 / growth));
}

/** `1 + 0.1 * multiplier * ln(1 / freqScale)`, rounded like llama.cpp does it: one bit changes what is said at near-ties. */
function yarnGrowth(multiplier: number, freqScale: number): number {
  const { fround } = Math;
  const logarithm = fround(Math.log(fround(1 / fround(freqScale))));
  return fround(1 + fround(fround(fround(0.1) * multiplier) * logarithm));
}

/** What YaRN's logarithm is multiplied by for the scale of attention; 0: the model does not say. */
function logMultiplier(keys: Keys): number {
  return keys.optionalNumber("rope.scaling.yarn_log_multiplier") ?? 0;
}

function checkDimensions(model: GgufModel, h: Hyperparameters): void {
  const demand = (fits: boolean, reason: string) => {
    if (!fits) throw unsupported(model, reason);
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

/** Throws `MODEL_UNSUPPORTED` for a RoPE scaling that is not known, or not of this architecture. */
function checkScaling(model: GgufModel, keys: Keys, { ropeFactors }: Architecture): void {
  const known = ["none", "linear", "yarn", ...(ropeFactors?.includes("longrope") ? ["longrope"] : [])];
  const scaling = keys.string("rope.scaling.type") ?? "none";
  if (known.includes(scaling)) return;
  throw unsupported(model, `its RoPE scaling is ${scaling}, not ${known.slice(0, -1).join(", ")} or ${known.at(-1)}`);
}

function unsupported(model: GgufModel, reason: string): StelliumError {
  return new StelliumError("MODEL_UNSUPPORTED", { model: model.files[0] ?? "the model", reason });
}
