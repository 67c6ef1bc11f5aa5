import { deviceFeatures } from "../native/backend.ts";
import type { Device, Ggml } from "../native/ggml.ts";
import { checksumAlgorithm } from "./checksum.ts";
import { Layouts, layOutTensors } from "./layout.ts";
import { pageBytes, roundUp } from "./pages.ts";
import { type TensorSlice, tensorPart } from "./slice.ts";
import type { SliceContent, SliceHeader } from "./sliceHeader.ts";

/** What of a rank's description a slice is made of. */
export interface SlicedModel {
  readonly share: SliceContent["share"];
  readonly blocks: readonly {
    readonly kind: string;
    readonly layer: number;
    readonly weights: readonly TensorSlice[];
  }[];
  /** The weights of each expert, in order, and the layer that it is of. */
  readonly experts: readonly { readonly layer: number; readonly weights: readonly TensorSlice[] }[];
  /** Weights that belong to no block. */
  readonly shared: readonly TensorSlice[];
}

/** What a rank's slice consists of, and the parts of tensors to be read for each of its blocks, in the same order. */
export interface CutPlan {
  readonly content: SliceContent;
  readonly blocks: readonly (readonly TensorSlice[])[];
}

/**
 * The slice of a rank. Its blocks are those of the model, the empty ones too; one more, of kind `shared`, holds what
 * belongs to no block; after it each expert is one. Units that the model does not have are no part of its share.
 */
export function cutPlan(rank: SlicedModel, model: SliceContent["model"]): CutPlan {
  const experts = rank.experts.map((expert) => ({ kind: expertKind, ...expert }));
  const blocks = [...rank.blocks, { kind: "shared", layer: 0, weights: rank.shared }, ...experts];
  const content = blocks.map(({ kind, layer, weights }) => ({ kind, layer, tensors: weights.map(tensorPart) }));
  return { content: { model, share: rank.share, blocks: content }, blocks: blocks.map((block) => block.weights) };
}

/** Kind of the blocks of a slice that are one expert each. */
export const expertKind = "expert";

/** Places a slice's tensors in its file, block by block. Throws `MODEL_UNSUPPORTED`; see `layOutTensors`. */
export function layOutSlice(content: SliceContent, ggml: Ggml, device: Device): SliceHeader {
  const layouts = new Layouts(ggml, device);
  let end = 0;
  const blocks = content.blocks.map(({ kind, layer, tensors }) => {
    const placed = layOutTensors(ggml, layouts, tensors);
    const offset = end;
    end = roundUp(offset + placed.bytes, pageBytes);
    return { kind, layer, offset, bytes: placed.bytes, tensors: [...placed.tensors] };
  });
  const features = deviceFeatures(device);
  const { model, share } = content;
  return { model, share, device: { ggml: ggml.version(), features }, checksum: checksumAlgorithm, blocks };
}
