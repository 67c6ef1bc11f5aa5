import { deviceFeatures } from "../native/backend.ts";
import type { Device, Ggml } from "../native/ggml.ts";
import { rowBytes } from "../native/tensorTypes.ts";
import { checksumAlgorithm } from "./checksum.ts";
import type { GgufTensor } from "./gguf/model.ts";
import { allocationBytes, describingContext, type Layout, Layouts, newTensor } from "./layout.ts";
import { pageBytes, roundUp } from "./pages.ts";
import type { TensorSlice } from "./slice.ts";
import type { SliceContent, SliceHeader } from "./sliceHeader.ts";

type ContentTensor = SliceContent["blocks"][number]["tensors"][number];

/** What of a rank's description a slice is made of. */
export interface SlicedModel {
  readonly share: SliceContent["share"];
  readonly blocks: readonly {
    readonly kind: string;
    readonly layer: number;
    readonly weights: readonly SlicedTensor[];
  }[];
  /** Weights that belong to no block. */
  readonly shared: readonly SlicedTensor[];
}

type SlicedTensor = TensorSlice & { readonly kind: "matrix" | "vector" };

/** What a rank's slice consists of, and the parts of tensors to be read for each of its blocks, in the same order. */
export interface CutPlan {
  readonly content: SliceContent;
  readonly blocks: readonly (readonly TensorSlice[])[];
}

/**
 * The slice of a rank. Its blocks are those of the model, the empty ones too; one more, of kind `shared`, holds what
 * belongs to no block.
 */
export function cutPlan(rank: SlicedModel, model: SliceContent["model"]): CutPlan {
  const blocks = [...rank.blocks, { kind: "shared", layer: 0, weights: rank.shared }];
  const content = blocks.map(({ kind, layer, weights }) => ({ kind, layer, tensors: weights.map(contentTensor) }));
  return { content: { model, share: rank.share, blocks: content }, blocks: blocks.map((block) => block.weights) };
}

function contentTensor({ name, tensor, kind, rows, columns }: SlicedTensor) {
  return { name, kind, type: tensor.type, rows, columns };
}

/** A part of a tensor, as a tensor of its own. */
export function localTensor({ name, kind, type, rows, columns }: ContentTensor): GgufTensor {
  const shape = kind === "vector" ? [columns.count] : [columns.count, rows.count];
  return { name, type, shape, file: 0, offset: 0, bytes: plainBytes({ type, rows, columns }) };
}

/** Bytes of a tensor, or a part of one, in the plain layout. */
export function plainBytes({ type, rows, columns }: Pick<ContentTensor, "type" | "rows" | "columns">): number {
  return rows.count * rowBytes(type, columns.count);
}

/**
 * Places a slice's tensors in its file, each in the layout that the device computes fastest from. Tensors of one
 * layout follow on each other from a page's border on, so that they can be read into one buffer.
 * Throws `MODEL_UNSUPPORTED` where the device does not multiply by one.
 */
export function layOutSlice(content: SliceContent, ggml: Ggml, device: Device): SliceHeader {
  const layouts = new Layouts(ggml, device);
  let offset = 0;
  const blocks = content.blocks.map(({ tensors, ...block }) => {
    const placed = placeTensors(ggml, layouts, tensors);
    const at = offset;
    offset = roundUp(offset + placed.bytes, pageBytes);
    return { ...block, offset: at, ...placed };
  });
  const features = deviceFeatures(device);
  const { model, share } = content;
  return { model, share, device: { ggml: ggml.version(), features }, checksum: checksumAlgorithm, blocks };
}

function placeTensors(ggml: Ggml, layouts: Layouts, tensors: readonly ContentTensor[]) {
  const chosen = tensors.map((tensor) => ({ tensor, layout: layoutOf(layouts, tensor) }));
  const names = [...new Set(chosen.map(({ layout }) => layout.name))].sort();
  const offsets = new Map<ContentTensor, { offset: number; bytes: number }>();
  let end = 0;
  for (const name of names) {
    end = roundUp(end, pageBytes);
    for (const { tensor, layout } of chosen.filter((entry) => entry.layout.name === name)) {
      const bytes = storedBytes(ggml, layout, tensor);
      offsets.set(tensor, { offset: end, bytes });
      end += bytes;
    }
  }
  const placed = chosen.map(({ tensor, layout }) => ({ ...tensor, layout: layout.name, ...offsets.get(tensor)! }));
  return { bytes: end, tensors: placed };
}

/** The layout in which a device stores a tensor. */
export function layoutOf(layouts: Layouts, tensor: ContentTensor): Layout {
  return tensor.kind === "matrix" ? layouts.forMatrix(localTensor(tensor)) : layouts.plain;
}

function storedBytes(ggml: Ggml, { bufferType }: Layout, tensor: ContentTensor): number {
  const context = describingContext(ggml, 1);
  try {
    const described = newTensor(ggml, context, localTensor(tensor), tensor.rows.count);
    return allocationBytes(ggml, bufferType, described);
  } finally {
    ggml.free(context);
  }
}
