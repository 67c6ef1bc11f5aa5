/**
 * What TPI-LLM's authors derive for their own scheduler: Li, Feng, Guizani and Yu, "TPI-LLM: Serving 70B-scale LLMs
 * Efficiently on Low-resource Edge Devices", arXiv 2410.00531v1, section 3.3. Kept as they are there, to compare with.
 */

/** Milliseconds of a layer's two halves on one device. */
export interface LayerTimes {
  readonly attentionMs: number;
  readonly ffnMs: number;
  /** Behind each half. */
  readonly allReduceMs: number;
  /** Reading the weights of each half from disk. */
  readonly attentionLoadMs: number;
  readonly ffnLoadMs: number;
}

/**
 * Proposition 3, the loose steady condition, inequalities (4) to (6), for `layers` layers. It assumes a window that is
 * never full. Since (4) is the sum of (5) and (6) for the first layer, and with it they hold for all layers if for the
 * first, it comes to (4) alone: a layer takes at least as long as reading it.
 */
export function looseSteadyCondition(times: LayerTimes, layers: number): boolean {
  const { attentionMs: a, ffnMs: f, allReduceMs: r, attentionLoadMs, ffnLoadMs } = times;
  const all = Array.from({ length: layers }, (_, i) => i + 1);
  const fourth = a + f + 2 * r >= ffnLoadMs + attentionLoadMs;
  const fifth = (l: number) => l * a + (l - 1) * f + (2 * l - 1) * r >= l * ffnLoadMs + (l - 1) * attentionLoadMs;
  const sixth = (l: number) => (l - 1) * a + l * f + (2 * l - 1) * r >= (l - 1) * ffnLoadMs + l * attentionLoadMs;
  return fourth && (all.every(fifth) || all.every(sixth));
}

/** Proposition 4, the tight steady condition: each half and its sum take at least as long as reading the next half. */
export function tightSteadyCondition(times: LayerTimes): boolean {
  const { attentionMs, ffnMs, allReduceMs, attentionLoadMs, ffnLoadMs } = times;
  return attentionMs + allReduceMs >= ffnLoadMs && ffnMs + allReduceMs >= attentionLoadMs;
}

/** Proposition 6, inequalities (9) and (10): the loose condition where one FFN block of every `every` stays in memory. */
export function steadyConditionWithRetention(times: LayerTimes, layers: number, every: number): boolean {
  const { attentionMs: a, ffnMs: f, allReduceMs: r, attentionLoadMs, ffnLoadMs } = times;
  return Array.from({ length: layers }, (_, i) => i + 1).every((l) => {
    const ffnLoads = (l - Math.ceil(l / every)) * ffnLoadMs;
    const ninth = l * a + l * f + 2 * l * r >= ffnLoads + l * attentionLoadMs;
    return ninth && l * a + (l - 1) * f + (2 * l - 1) * r >= ffnLoads + (l - 1) * attentionLoadMs;
  });
}

/** What the peak memory formula is about. */
export interface PeakMemoryShape {
  /** h, v, s, a and b of the paper. */
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly intermediateSize: number;
  readonly headCount: number;
  readonly headCountKv: number;
  /** p: the fraction of the parameters that the device has. */
  readonly share: number;
  /** w: blocks of the window. */
  readonly window: number;
}

/** Proposition 5, equations (7) and (8): parameters in memory at the peak, before the paper's empirical factor. */
export function peakParameters(shape: PeakMemoryShape): { readonly master: number; readonly worker: number } {
  const { hiddenSize: h, vocabularySize: v, window: w } = shape;
  const attention = 2 * (1 + shape.headCountKv / shape.headCount) * h ** 2 * shape.share + h;
  const ffn = 3 * h * shape.intermediateSize * shape.share + h;
  const between = Math.floor((w - 2) / 2) * attention + Math.floor((w - 1) / 2) * ffn;
  const master = w === 1 ? h * v + h : 2 * h * v + h + (w === 2 ? 0 : between);
  return { master, worker: Math.floor(w / 2) * attention + Math.floor((w + 1) / 2) * ffn };
}
