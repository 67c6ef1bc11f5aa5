import type { ModelDescription } from "./describeModel.ts";
import type { RopeParameters } from "./rope.ts";

/** Chooses between the factors on RoPE's frequencies for long and short contexts, by cells, as in llama.cpp. */
export function factorsFor({ originalContext }: RopeParameters, slotCells: number): "long" | "short" {
  return slotCells > originalContext ? "long" : "short";
}

/** The same for a model; undefined if it has no such pair. Keys of one choice are of no use to the other. */
export function chosenFactors(
  { shared, hyperparameters }: Pick<ModelDescription, "shared" | "hyperparameters">,
  slotCells: number,
): "long" | "short" | undefined {
  const paired = shared.some(({ role }) => role.startsWith("rope_factors_"));
  return paired ? factorsFor(hyperparameters.rope, slotCells) : undefined;
}
