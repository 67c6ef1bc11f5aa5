import { getNumber, getString } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";

/** `pooling_type` of models whose only output is a score. */
const rankPooling = 4;

/**
 * The reason, in words that people use, why a file is no model that writes text; undefined if it looks like one. It is
 * looked for first, since what is unusual about such a file further on (a tensor, an architecture) says less.
 */
export function reasonOfOtherFile(model: GgufModel): string | undefined {
  const architecture = getString(model, "general.architecture") ?? "";
  const type = getString(model, "general.type");
  if (type === "adapter") return "it is an adapter (LoRA), which changes another model and cannot run by itself";
  if (type === "mmproj" || architecture === "clip") {
    return "it is a projector (mmproj) for images or sound, which goes with a text model and cannot run by itself";
  }
  if (type === "imatrix" || architecture === "imatrix") return "it is an importance matrix, not a model";
  if (getNumber(model, `${architecture}.pooling_type`) === rankPooling || model.tensors.has("cls.output.weight")) {
    return "it is a reranker, which scores texts and writes none";
  }
  return undefined;
}

/**
 * Tensors that do not touch text, which are left out: towers and projectors for images and sound, layers that guess
 * further tokens (multi-token prediction).
 *
 * @param layers - of the model, without those
 */
export function isBesideText(name: string, layers: number): boolean {
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  return Number(layer) >= layers || /^(v\.|a\.|mm\.|vision_|model\.vision)|^blk\.\d+\.nextn\./.test(name);
}
