import { unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel, GgufTensor } from "../weights/gguf/model.ts";
import type { Architecture } from "./architecture.ts";
import type { Block } from "./blocks/block.ts";
import { describeBlock } from "./blocks/definitions.ts";
import { type ExpertsBlock, routerRole } from "./blocks/experts.ts";
import { type Hyperparameters, readHyperparameters } from "./hyperparameters.ts";
import { type Unit, type Weight, wholeWeight } from "./split.ts";
import { TensorFinder } from "./tensorFinder.ts";

/** A model as the engine runs it. Plain data: it crosses threads. */
export interface ModelDescription {
  readonly files: readonly string[];
  readonly hyperparameters: Hyperparameters;
  /** In order of computing: the blocks of each layer, then the head. */
  readonly blocks: readonly Block[];
  /** Number of units of each kind. */
  readonly units: Readonly<Record<Unit, number>>;
  /** Rows of it are read from disk when a token needs them. */
  readonly embedding: GgufTensor;
  /** Undefined if tokens have no embeddings for each layer. */
  readonly perLayer: PerLayerTensors | undefined;
  /** Weights that belong to no block. */
  readonly shared: readonly Weight[];
  /** Number of tensors that are left out, since they do not touch text. */
  readonly leftOut: number;
}

/** What embeddings of tokens for each layer are made from, on rank 0 alone. */
export interface PerLayerTensors {
  /** (values * layers, vocabulary size): rows of it are read from disk when a token needs them. */
  readonly table: GgufTensor;
  /** A projection of the ordinary embedding and its norm, which are always in memory. */
  readonly weights: readonly Weight[];
}

/** Finds every tensor of a model and checks its shape. Throws `MODEL_UNSUPPORTED` naming what is missing or unknown. */
export function describeModel(model: GgufModel, architecture: Architecture): ModelDescription {
  const h = readHyperparameters(model, architecture);
  const finder = new TensorFinder(model);
  const embedding = finder.find("token_embd.weight", [h.embeddingLength, h.vocabularySize]);
  const perLayer = h.perLayerLength === 0 ? undefined : perLayerTensors(finder, h);
  const shared = ropeFactors(finder, architecture, h);
  const { layer: kinds = ["attention", "ffn"] } = architecture;
  const isMixture = (layer: number) => h.routing !== undefined && finder.layer(layer, architecture).has(routerRole);
  const layers = Array.from({ length: h.blockCount }, (_, layer) =>
    kinds.map((kind) => {
      const own = kind === "ffn" && isMixture(layer) ? "experts" : kind;
      return describeBlock(own, finder, architecture, h, layer);
    }),
  );
  checkMixture(model, layers.flat(), h);
  const blocks = [...layers.flat(), describeBlock("head", finder, architecture, h, h.blockCount)];
  const leftOut = finder.refuseUnknown(h.blockCount);
  return {
    files: model.files,
    hyperparameters: h,
    blocks,
    units: unitsOf(model, h, blocks),
    embedding,
    perLayer,
    shared,
    leftOut,
  };
}

/** A model whose experts nobody found would be taken for another one. */
function checkMixture(model: GgufModel, blocks: readonly Block[], { routing }: Hyperparameters): void {
  if (routing === undefined || blocks.some(({ kind }) => kind === "experts")) return;
  const reason = `it is a mixture of ${routing.count} experts, and none of its layers has a router`;
  throw unsupportedModel(model, reason);
}

function perLayerTensors(
  finder: TensorFinder,
  { embeddingLength, perLayerLength, blockCount, vocabularySize }: Hyperparameters,
): PerLayerTensors {
  const all = perLayerLength * blockCount;
  const projection = finder.find("per_layer_model_proj.weight", [embeddingLength, all]);
  const norm = finder.find("per_layer_proj_norm.weight", [perLayerLength], "F32");
  const split = { axis: "replicated" } as const;
  return {
    table: finder.find("per_layer_token_embd.weight", [all, vocabularySize]),
    weights: [
      wholeWeight({ role: "per_layer_model_proj.weight", kind: "matrix", tensor: projection, split }),
      wholeWeight({ role: "per_layer_proj_norm.weight", kind: "vector", tensor: norm, split }),
    ],
  };
}

/** Factors on RoPE's frequencies, one for every pair of values. */
function ropeFactors(
  finder: TensorFinder,
  { ropeFactors: kinds = [] }: Architecture,
  { rope }: Hyperparameters,
): Weight[] {
  const roles = {
    freqs: ["rope_freqs.weight"],
    longrope: ["rope_factors_long.weight", "rope_factors_short.weight"],
  };
  return kinds
    .flatMap((kind) => roles[kind])
    .flatMap((role) => {
      const tensor = finder.findOptional(role, [rope.dimensions / 2], "F32");
      const split = { axis: "replicated", unit: "kvHeads" } as const;
      return tensor === undefined ? [] : [wholeWeight({ role, kind: "vector", tensor, split })];
    });
}

function unitsOf(model: GgufModel, h: Hyperparameters, blocks: readonly Block[]): Record<Unit, number> {
  const mixtures = blocks.filter((block) => block.kind === "experts");
  const columns = {
    ffn: blocks.some(({ weights }) => weights.some(({ split }) => split.unit === "ffn")) ? h.feedForwardLength : 0,
    sharedFfn: sameIn(model, mixtures, "sharedWidth"),
    expertFfn: sameIn(model, mixtures, "width"),
  };
  return { kvHeads: h.headCountKv, ...columns, vocabulary: h.vocabularySize };
}

/** The width that experts have in all layers; 0 if there are none. */
function sameIn(model: GgufModel, blocks: readonly ExpertsBlock[], width: "width" | "sharedWidth"): number {
  const widths = [...new Set(blocks.map((block) => block[width]))];
  if (widths.length <= 1) return widths[0] ?? 0;
  const reason = `its experts have ${widths.slice(0, 4).join(", ")} columns, not the same in all layers`;
  throw unsupportedModel(model, reason);
}
