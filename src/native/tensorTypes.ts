/** A tensor element type: its GGUF number, and how many elements and bytes one quantization block has. */
export interface TensorType {
  readonly id: number;
  readonly blockElements: number;
  readonly blockBytes: number;
}

/** Tensor types by name, as in ggml's `enum ggml_type`. Numbers that ggml has retired are absent. */
export const tensorTypes = {
  F32: { id: 0, blockElements: 1, blockBytes: 4 },
  F16: { id: 1, blockElements: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockElements: 32, blockBytes: 18 },
  Q4_1: { id: 3, blockElements: 32, blockBytes: 20 },
  Q5_0: { id: 6, blockElements: 32, blockBytes: 22 },
  Q5_1: { id: 7, blockElements: 32, blockBytes: 24 },
  Q8_0: { id: 8, blockElements: 32, blockBytes: 34 },
  Q8_1: { id: 9, blockElements: 32, blockBytes: 36 },
  Q2_K: { id: 10, blockElements: 256, blockBytes: 84 },
  Q3_K: { id: 11, blockElements: 256, blockBytes: 110 },
  Q4_K: { id: 12, blockElements: 256, blockBytes: 144 },
  Q5_K: { id: 13, blockElements: 256, blockBytes: 176 },
  Q6_K: { id: 14, blockElements: 256, blockBytes: 210 },
  Q8_K: { id: 15, blockElements: 256, blockBytes: 292 },
  IQ2_XXS: { id: 16, blockElements: 256, blockBytes: 66 },
  IQ2_XS: { id: 17, blockElements: 256, blockBytes: 74 },
  IQ3_XXS: { id: 18, blockElements: 256, blockBytes: 98 },
  IQ1_S: { id: 19, blockElements: 256, blockBytes: 50 },
  IQ4_NL: { id: 20, blockElements: 32, blockBytes: 18 },
  IQ3_S: { id: 21, blockElements: 256, blockBytes: 110 },
  IQ2_S: { id: 22, blockElements: 256, blockBytes: 82 },
  IQ4_XS: { id: 23, blockElements: 256, blockBytes: 136 },
  I8: { id: 24, blockElements: 1, blockBytes: 1 },
  I16: { id: 25, blockElements: 1, blockBytes: 2 },
  I32: { id: 26, blockElements: 1, blockBytes: 4 },
  I64: { id: 27, blockElements: 1, blockBytes: 8 },
  F64: { id: 28, blockElements: 1, blockBytes: 8 },
  IQ1_M: { id: 29, blockElements: 256, blockBytes: 56 },
  BF16: { id: 30, blockElements: 1, blockBytes: 2 },
  TQ1_0: { id: 34, blockElements: 256, blockBytes: 54 },
  TQ2_0: { id: 35, blockElements: 256, blockBytes: 66 },
  MXFP4: { id: 39, blockElements: 32, blockBytes: 17 },
} as const satisfies Record<string, TensorType>;

/** Name of a tensor type, such as `Q4_0`. */
export type TensorTypeName = keyof typeof tensorTypes;

const namesById = new Map<number, TensorTypeName>(
  Object.entries(tensorTypes).map(([name, type]) => [type.id, name as TensorTypeName]),
);

/** Name of the type with this GGUF number, or undefined where there is none. */
export function tensorTypeName(id: number): TensorTypeName | undefined {
  return namesById.get(id);
}

/** Types that ggml had once: files with them have to be made again. */
const retired: Readonly<Record<number, string>> = {
  ...{ 4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8" },
  ...{ 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8" },
};
/** Types that ggml has and Stellium does not. */
const notHere: Readonly<Record<number, string>> = { 40: "NVFP4", 41: "Q1_0" };

/** Why tensors of the type with this GGUF number cannot be used, if it has no name here. */
export function typeProblem(id: number): string {
  if (retired[id])
    return `the type ${retired[id]}, which ggml has retired: quantize the model again, to Q4_0 or Q4_K_M`;
  if (notHere[id]) return `the type ${notHere[id]}, which does not run here: take another quantization of the model`;
  return `type ${id}, which is not known`;
}

/** Types that hold something else than weights: integers, and what activations are quantized to. */
const noWeights: ReadonlySet<TensorTypeName> = new Set(["I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"]);

/** Whether matrices of a type can be multiplied by; ggml takes the others for multipliable too, and crashes. */
export function isWeightType(type: TensorTypeName): boolean {
  return !noWeights.has(type);
}

/** Bytes of one row of `elements` values. Requires `elements` to be a multiple of the type's block. */
export function rowBytes(type: TensorTypeName, elements: number): number {
  const { blockElements, blockBytes } = tensorTypes[type];
  return (elements / blockElements) * blockBytes;
}
