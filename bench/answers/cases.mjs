/** Numbers of devices that answers are compared for. */
export const sizes = /** @type {const} */ ([2, 3, 4, 5, 8]);

/** How a model is shared out: relative shares by number of devices. */
export const deals = {
  equal: { 2: [1, 1], 3: [1, 1, 1], 4: [1, 1, 1, 1], 5: [1, 1, 1, 1, 1], 8: [1, 1, 1, 1, 1, 1, 1, 1] },
  uneven: { 2: [3, 1], 3: [1, 3, 2], 4: [4, 1, 2, 1], 5: [1, 5, 2, 1, 3], 8: [4, 1, 1, 2, 1, 3, 1, 2] },
  zeros: { 2: [0, 1], 3: [2, 0, 1], 4: [0, 2, 1, 0], 5: [1, 0, 2, 0, 1], 8: [0, 2, 0, 1, 1, 0, 3, 1] },
};

/** @typedef {typeof sizes[number]} Size */
/** @typedef {keyof typeof deals} Deal */

export const dealNames = /** @type {Deal[]} */ (Object.keys(deals));

/**
 * Options of an engine for such comparisons. One thread: several that spin on busy cores take ten times as long. The KV
 * cache of models that are not quantized is f32: one of f16 rounds more than their weights do.
 * @param {string} type of the weights
 * @returns {import("#stellium/engine/protocol").EngineOptions}
 */
export function engineOptions(type) {
  const kvType = type === "F32" || type === "F16" ? "f32" : "f16";
  return { threads: 1, poll: 0, context: 256, batch: 128, outputs: 1, graphs: "whole", kvType };
}

/**
 * By how much log-probabilities of written tokens may differ from one device's, by type of the weights. Ranks add up in
 * another order than one device does, which is worth 1e-7 or so of an activation. ggml rounds activations to the type
 * that it multiplies the weights with: to f16 before weights of F16, to 8 bits before quantized ones. Most differences
 * vanish in that, but now and then one tips an activation over to the next value, which is 1e-3 and 1e-2 of it.
 * @param {string} type
 */
export function tolerance(type) {
  if (type === "F32") return 1e-3;
  return type === "F16" ? 0.02 : 0.35;
}

/** Any tokens; all models compared have these. */
export const prompt = Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % 500);
