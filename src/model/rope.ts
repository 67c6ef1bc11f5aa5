import { unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture, RopeMode } from "./architecture.ts";
import type { Keys } from "./keys.ts";

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

/** RoPE with linear or YaRN scaling, as llama.cpp reads the keys (`llama_context::llama_context`). */
export function ropeParameters(
  model: GgufModel,
  keys: Keys,
  architecture: Architecture,
  headLength: number,
): RopeParameters {
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
  throw unsupportedModel(
    model,
    `its ${key} are ${sections?.join(", ") ?? "missing"}, not ${mostSections} numbers of pairs`,
  );
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

/** YaRN makes the scores larger as well (https://github.com/ggml-org/llama.cpp/discussions/7416). Rounds like llama.cpp. */
export function latentScale(keys: Keys, { attnFactor, freqScale }: RopeParameters, keyLength: number): number {
  const { fround } = Math;
  const ownFactor = fround(fround(attnFactor) * yarnGrowth(1, freqScale));
  const factor = fround(ownFactor * yarnGrowth(fround(logMultiplier(keys) / fround(0.1)), freqScale));
  return fround(factor ** 2) / fround(Math.sqrt(keyLength));
}

/** Throws `MODEL_UNSUPPORTED` for a RoPE scaling that is not known, or not of this architecture. */
export function checkScaling(model: GgufModel, keys: Keys, { ropeFactors }: Architecture): void {
  const known = ["none", "linear", "yarn", ...(ropeFactors?.includes("longrope") ? ["longrope"] : [])];
  const scaling = keys.string("rope.scaling.type") ?? "none";
  if (known.includes(scaling)) return;
  throw unsupportedModel(
    model,
    `its RoPE scaling is ${scaling}, not ${known.slice(0, -1).join(", ")} or ${known.at(-1)}`,
  );
}
