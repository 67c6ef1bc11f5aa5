import { tensorTypes } from "../../dist/native/tensorTypes.js";

/** @typedef {import("../../dist/native/tensorTypes.js").TensorTypeName} TensorTypeName */

/** `general.file_type` as llama.cpp numbers whole files; its loader only prints it. */
const fileTypes = {
  ...{ F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 7, Q5_0: 8, Q5_1: 9, Q2_K: 10, Q3_K: 12, Q4_K: 14, Q4_K_M: 15 },
  ...{ Q5_K: 16, Q5_K_M: 17, Q6_K: 18, IQ2_XXS: 19, IQ2_XS: 20, IQ3_XXS: 23, IQ1_S: 24, IQ4_NL: 25, IQ3_S: 26 },
  ...{ IQ2_S: 28, IQ4_XS: 30, IQ1_M: 31, BF16: 32, TQ1_0: 36, TQ2_0: 37, MXFP4: 38 },
};

/** @typedef {keyof typeof fileTypes} FileType What a whole file is called: one tensor type throughout, or a mix. */

/** @type {Partial<Record<FileType, TensorTypeName>>} */
const mixBases = { Q4_K_M: "Q4_K", Q5_K_M: "Q5_K" };

/** What llama.cpp takes where a row is no multiple of 256. @type {Partial<Record<TensorTypeName, TensorTypeName>>} */
const fallbacks = {
  ...{ Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "Q8_0", TQ1_0: "Q4_0", TQ2_0: "Q4_0" },
  ...{ Q2_K: "IQ4_NL", Q3_K: "IQ4_NL", IQ1_S: "IQ4_NL", IQ1_M: "IQ4_NL", IQ2_XXS: "IQ4_NL", IQ2_XS: "IQ4_NL" },
  ...{ IQ2_S: "IQ4_NL", IQ3_XXS: "IQ4_NL", IQ3_S: "IQ4_NL", IQ4_XS: "IQ4_NL" },
};

/**
 * The file type of this name. Throws on an unknown one.
 * @param {string} name
 * @returns {FileType}
 */
export function fileTypeNamed(name) {
  if (!(name in fileTypes))
    throw new Error(`there is no type "${name}"; there are ${Object.keys(fileTypes).join(", ")}`);
  return /** @type {FileType} */ (name);
}

/**
 * llama.cpp's number for a file type.
 * @param {FileType} type
 */
export function fileTypeNumber(type) {
  return fileTypes[type];
}

/**
 * @typedef {object} MatrixFacts What a matrix's type depends on.
 * @property {string} name
 * @property {number} rowLength
 * @property {number} layers
 * @property {number} grouped Query heads for each KV head.
 * @property {boolean} isHead
 * @property {number} experts Of the model; 0 if it has none.
 * @property {boolean} stacked The tensor holds several matrices.
 */

/**
 * The type of one matrix. A plain file type is that type throughout (`llama-quantize --pure`); a mix follows llama.cpp's
 * own rules, by the tensor's name and layer. MXFP4 in a model with experts is a mix, too: the rest of it is Q8_0.
 * @param {FileType} fileType
 * @param {MatrixFacts} tensor
 * @returns {TensorTypeName}
 */
export function matrixType(fileType, tensor) {
  if (fileType === "MXFP4" && tensor.experts > 0) return fitting(tensor.stacked ? "MXFP4" : "Q8_0", tensor.rowLength);
  if (tensor.name === "per_layer_model_proj.weight" && fileType !== "F32") return "BF16";
  const base = mixBases[fileType];
  return fitting(base ? mixedType(base, tensor) : /** @type {TensorTypeName} */ (fileType), tensor.rowLength);
}

/**
 * @param {TensorTypeName} base
 * @param {MatrixFacts} tensor
 * @returns {TensorTypeName}
 */
function mixedType(base, { name, rowLength, layers, grouped, isHead, experts }) {
  if (isHead) return rowLength % 256 ? "Q8_0" : "Q6_K";
  // Next to eight experts, attention is so small that more bits for it cost little.
  if (experts === 8 && /\.attn_[kv]\.weight$/.test(name)) return "Q8_0";
  if (experts === 8 && base === "Q4_K" && name.endsWith("attn_output.weight")) return "Q5_K";
  const [, layer, part] = /^blk\.(\d+)\.(attn_v|ffn_down)(?:_exps|_shexp|\.\d+)?\.weight$/.exec(name) ?? [];
  if (layer === undefined) return base;
  if (usesMoreBits(Number(layer), layers)) return "Q6_K";
  // Of a 70B model, eight query heads share a value head: its matrix is small and matters.
  return part === "attn_v" && layers === 80 && grouped === 8 && base === "Q4_K" ? "Q5_K" : base;
}

/**
 * @param {number} layer
 * @param {number} layers
 */
function usesMoreBits(layer, layers) {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

/**
 * @param {TensorTypeName} type
 * @param {number} rowLength
 * @returns {TensorTypeName}
 */
function fitting(type, rowLength) {
  if (rowLength % tensorTypes[type].blockElements === 0) return type;
  const next = fallbacks[type];
  return next ? fitting(next, rowLength) : "F16";
}
