import type { Tensor } from "../../native/ggml.ts";
import type { Architecture } from "../architecture.ts";
import type { ExpertMatrix } from "../expertWeights.ts";
import type { GatedActivation, GraphBuilder } from "../graphBuilder.ts";
import { type Hyperparameters, keepsLast } from "../hyperparameters.ts";
import type { Routing } from "../routing.ts";
import type { Weight } from "../split.ts";
import type { LayerFinder, TensorFinder } from "../tensorFinder.ts";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type BlockStep,
  blockInput,
  type ChooseStep,
  type ChosenInputs,
  type ComputeStep,
  type ExpertContext,
  type Flow,
  type GatedProjection,
  gatedNetwork,
  normedBy,
  project,
  type RankBlock,
} from "./block.ts";

/** A mixture of experts: gated feed-forward networks of which a router chooses some for each token, added to their input. */
export interface ExpertsBlock extends BlockFacts {
  readonly kind: "experts";
  readonly activation: GatedActivation;
  readonly routing: Routing;
  /** Columns of each expert and of the shared one, which all tokens pass through; 0 if there is none. */
  readonly width: number;
  readonly sharedWidth: number;
  /** True if the shared expert has norms of its own; see `ExpertFacts.beside`. */
  readonly beside: boolean;
  /** True if only tokens with outputs get here: no layer after it keeps keys. */
  readonly last: boolean;
}

/** Role of the router's matrix: a layer that has it is a mixture of experts. */
export const routerRole = "ffn_gate_inp.weight";
const correctionRole = "exp_probs_b.bias";
const sharedGateRole = "ffn_gate_inp_shexp.weight";
/** Of a shared expert with norms of its own: its norms before and after, that of the experts after their sum, and two scales. */
const besideRoles = {
  ...{ before: "ffn_norm.weight", after: "post_ffw_norm_1.weight", afterExperts: "post_ffw_norm_2.weight" },
  ...{ router: "ffn_gate_inp.scale", outputs: "ffn_down_exps.scale" },
};

function describeExperts(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, cellLayers, norm, residualScale, routing }: Hyperparameters,
  layer: number,
): ExpertsBlock {
  const from = finder.layer(layer, architecture);
  const { feedForwardNorm = "ffn_norm", experts: { activation = "silu", beside = false } = {} } = architecture;
  const norms = from.norms(beside ? "pre_ffw_norm_2" : feedForwardNorm, "post_ffw_norm", embeddingLength, undefined);
  const matrices = expertMatrices(from, embeddingLength, routing!.count);
  const width = matrices.find(({ role }) => role === "ffn_up_exps.weight")!.rows.count;
  const { weights: shared, sharedWidth } = sharedExpert(from, embeddingLength, beside);
  const weights = [
    ...norms.weights,
    ...router(from, embeddingLength, routing!.count),
    ...expertBiases(from, embeddingLength, width, routing!.count),
    ...shared,
    ...(beside ? besideVectors(from, embeddingLength, routing!.count) : []),
  ];
  const { before, after } = norms;
  const facts = { layer, weights, embeddingLength, norm, before, after, residualScale, activation };
  const experts = { count: routing!.count, matrices };
  const last = keepsLast({ cellLayers }, layer);
  return { kind: "experts", ...facts, experts, routing: routing!, width, sharedWidth, beside, last };
}

/** The router: its matrix, and what it adds to its values, before and for the choice. */
function router(from: LayerFinder, embeddingLength: number, count: number): Weight[] {
  const split = { axis: "replicated" } as const;
  const optional = (role: string) => (from.has(role) ? [from.vector(role, count, split)] : []);
  return [
    from.matrix(routerRole, embeddingLength, count, split),
    ...optional("ffn_gate_inp.bias"),
    ...optional(correctionRole),
  ];
}

function expertMatrices(from: LayerFinder, embeddingLength: number, count: number): ExpertMatrix[] {
  const unit = "expertFfn" as const;
  const rows = { axis: "rows", unit, each: 1 } as const;
  const columns = { axis: "columns", unit, each: 1 } as const;
  const gated = from.gatedExperts(embeddingLength, rows, count);
  const width = gated[0]!.rows.count;
  return [...gated, from.expertMatrix("ffn_down", { inputs: width, outputs: embeddingLength, split: columns }, count)];
}

/** One row for each expert; that of the last matrix is added once. */
function expertBiases(from: LayerFinder, embeddingLength: number, width: number, count: number): Weight[] {
  const unit = "expertFfn" as const;
  const columns = { axis: "columns", unit, each: 1 } as const;
  const bias = (role: string, length: number, split: Weight["split"]) =>
    from.has(role) ? [from.rowsOfBias(role, length, count, split)] : [];
  return [
    ...bias("ffn_gate_exps.bias", width, columns),
    ...bias("ffn_up_exps.bias", width, columns),
    ...bias("ffn_down_exps.bias", embeddingLength, { axis: "once", unit }),
  ];
}

/** The shared expert, as wide as its tensors are; no weights if there is none. */
function sharedExpert(
  from: LayerFinder,
  embeddingLength: number,
  beside: boolean,
): { weights: Weight[]; sharedWidth: number } {
  const unit = "sharedFfn" as const;
  const role = (stem: GatedProjection) => `${sharedStem({ beside }, stem)}.weight`;
  if (!from.has(role("ffn_up"))) return { weights: [], sharedWidth: 0 };
  const sharedWidth = from.lengthOf(role("ffn_up"), 1);
  const rows = { axis: "rows", unit, each: 1 } as const;
  const columns = { axis: "columns", unit, each: 1 } as const;
  const gate = from.has(sharedGateRole)
    ? [from.vector(sharedGateRole, embeddingLength, { axis: "replicated", unit })]
    : [];
  const weights = [
    from.matrix(role("ffn_gate"), embeddingLength, sharedWidth, rows),
    from.matrix(role("ffn_up"), embeddingLength, sharedWidth, rows),
    from.matrix(role("ffn_down"), sharedWidth, embeddingLength, columns),
    ...gate,
  ];
  return { weights, sharedWidth };
}

/** The name of one of the shared expert's projections. */
function sharedStem({ beside }: Pick<ExpertsBlock, "beside">, stem: GatedProjection): string {
  return beside ? stem : `${stem}_shexp`;
}

/** Norms and scales of a layer whose shared expert has norms of its own. */
function besideVectors(from: LayerFinder, embeddingLength: number, count: number): Weight[] {
  const { before, after, afterExperts, router, outputs } = besideRoles;
  const split = { axis: "replicated" } as const;
  return [
    from.vector(before, embeddingLength, { ...split, unit: "sharedFfn" }),
    ...[after, afterExperts].map((role) => from.vector(role, embeddingLength, split, true)),
    from.vector(router, embeddingLength, split),
    ...(from.has(outputs) ? [from.vector(outputs, count, split)] : []),
  ];
}

/** See `ExpertsBlock`. */
export const experts: BlockDefinition<ExpertsBlock> = {
  describe: describeExperts,
  steps: ({
    routing,
    pooled = false,
    recorded = false,
    undivided,
    beside,
    sharedWidth,
    embeddingLength,
    guesses = [],
  }) => {
    const nodes = nodesBesides + nodesPerChosen * routing.used + nodesPerGuess * guesses.length;
    const gives = { does: "compute", nodes, ...(beside && { leaves: 2 * embeddingLength }) } as const;
    const own: BlockStep<ExpertsBlock>[] =
      undivided && !pooled && !recorded
        ? [{ ...gives, append: appendAll }]
        : [
            { does: "compute", nodes, append: appendRouter },
            routed(routing),
            ...(pooled && sharedWidth > 0 ? [{ does: "compute", nodes, append: appendShared } as const] : []),
            ...(pooled ? [{ does: "experts", used: routing.used, append: appendExpert } as const] : []),
            { ...gives, append: pooled ? appendOutputs : appendChosen },
          ];
    return [...own, { does: "sum" }, beside ? addBoth : addSum];
  },
  state: () => undefined,
  cost: ({ routing, embeddingLength, last, pooled = false, beside }, { expertFfn, sharedFfn }) => ({
    // The input, what the shared expert gives, and room for what the others do.
    kept: [
      embeddingLength,
      ...(pooled && sharedFfn.count > 0 ? [embeddingLength] : []),
      ...(pooled ? [routing.used * embeddingLength] : []),
    ],
    // Gate, up, their product and its quantized copy; what each expert gives, and that times its weight.
    workingValues:
      routing.used * (4 * expertFfn.count + 2 * embeddingLength) +
      4 * sharedFfn.count +
      3 * routing.count +
      (beside ? 4 * embeddingLength : 0),
    computes: last ? "outputs" : "tokens",
  }),
};

/** Operations and weights of a step: a view and a sum for each chosen expert, and all others. */
const nodesPerChosen = 2;
const nodesBesides = 80;
const nodesPerGuess = 36;

/** A choice that the graph before has made. */
function routed({ count, used }: Routing): ChooseStep<ExpertsBlock> {
  return { does: "choose", ids: used, weights: used, among: count, choose() {} };
}

type Experts = RankBlock<ExpertsBlock>;

function appendAll(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return flow;
  const input = blockInput(context, block, flow.hidden);
  const chosen = route(context, block, flow, input);
  return withShared(context, block, flow, input, chosenExperts(context, block, input, chosen, flow.columns));
}

/** The experts' input, and which ones each token gets. */
function appendRouter(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return { ...flow, partial: null };
  const input = blockInput(context, block, flow.hidden);
  const routed = { ...route(context, block, flow, input), used: block.routing.used };
  return { ...flow, kept: [input], routed: { ...routed, guessed: guessed(context, block, flow) } };
}

/** Most tokens of a pass that guesses: a prompt uses nearly all experts. */
const mostGuessing = 8;

/**
 * What later blocks' routers say of the hidden states as they are now: they change little from layer to layer (Eliseev
 * and Mazur, "Fast inference of mixture-of-experts language models with offloading", 2023, section 3.2).
 */
function guessed(context: BlockContext, { guesses = [] }: Experts, flow: Flow): Tensor[] {
  if (flow.columns > mostGuessing) return [];
  const mixtures = guesses.filter((block): block is Experts => block.kind === "experts");
  return mixtures.map((block) => route(context, block, flow, blockInput(context, block, flow.hidden)).ids);
}

/** Computes the chosen experts. */
function appendChosen(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return flow;
  const [input] = flow.kept!;
  return withShared(context, block, flow, input!, chosenExperts(context, block, input!, flow.chosen!, flow.columns));
}

/** The shared expert, while the chosen ones are read. */
function appendShared(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return flow;
  const [input] = flow.kept!;
  return { ...flow, kept: [input!, ...shared(context, block, flow, input!)] };
}

/** Takes the outputs of experts that were computed one by one. */
function appendOutputs(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return flow;
  const [input, ...given] = flow.kept!;
  const outputs = given.pop()!;
  const own = hasExperts(block) ? [weightedSum(context, block, outputs, flow.chosen!.weights, flow.columns)] : [];
  return addedUp(context, block, flow, input!, own, given);
}

/** The sum of what the rank has of the chosen experts and of the shared one. */
function withShared(context: BlockContext, block: Experts, flow: Flow, input: Tensor, own: Tensor[]): Flow {
  return addedUp(context, block, flow, input, own, shared(context, block, flow, input));
}

/** Adds up parts of the chosen experts and of the shared one, or puts one behind the other to be normed. */
function addedUp(
  { builder }: BlockContext,
  block: Experts,
  flow: Flow,
  input: Tensor,
  own: readonly Tensor[],
  others: readonly Tensor[],
): Flow {
  const sum = () => [...own, ...others].reduce((all, part) => builder.add(all, part));
  const partial = block.beside ? oneBehindTheOther(builder, input, others[0], own[0]) : sum();
  return { ...flow, kept: undefined, routed: undefined, partial };
}

/** (2 * embedding length, columns): of what the rank has no part of, zeros as many as there are in `like`. */
function oneBehindTheOther(builder: GraphBuilder, like: Tensor, first?: Tensor, second?: Tensor): Tensor {
  const zeros = () => builder.filled(like, 0);
  return builder.concat(first ?? zeros(), second ?? zeros(), 0);
}

/** Adds up the norms of what the shared expert and the others have given, and adds that to the hidden states. */
const addBoth: ComputeStep<BlockFacts> = {
  does: "compute",
  resident: true,
  append(context, block, flow) {
    const { builder } = context;
    const { embeddingLength: length } = block;
    const half = (role: string, skipped: number) =>
      normedBy(context, block, role, builder.partOfColumns(flow.partial!, 2 * length, flow.columns, skipped, length));
    const partial = builder.add(half(besideRoles.after, 0), half(besideRoles.afterExperts, length));
    return addSum.append(context, block, { ...flow, partial });
  },
};

function hasExperts(block: Experts): boolean {
  return block.experts!.matrices.length > 0;
}

/** One expert, without its weight, or several. */
function appendExpert({ builder, project }: ExpertContext, block: Experts, input: Tensor): Tensor {
  return gatedNetwork(builder, block.activation, input, (stem, to) => project(`${stem}_exps`, to));
}

/** The weighted sum of the chosen experts' outputs; empty on a rank without a share of them. */
function chosenExperts(
  context: BlockContext,
  block: Experts,
  input: Tensor,
  { ids, weights }: ChosenInputs,
  columns: number,
): Tensor[] {
  if (!hasExperts(block)) return [];
  const each = expertOutputs(context, block, context.builder.reshape(input, block.embeddingLength, 1, columns), ids);
  return [weightedSum(context, block, each, weights, columns)];
}

/**
 * The sum of what experts give, one after the other, as llama.cpp does it.
 *
 * @param outputs - (embedding length, used, columns), in any shape
 * @param weights - (used, columns)
 */
function weightedSum(
  { builder }: BlockContext,
  { routing: { used }, embeddingLength }: Experts,
  outputs: Tensor,
  weights: Tensor,
  columns: number,
): Tensor {
  const weighted = builder.multiply(
    builder.reshape(outputs, embeddingLength, used, columns),
    builder.reshape(weights, 1, used, columns),
  );
  const one = (i: number) =>
    builder.partOfColumns(weighted, used * embeddingLength, columns, i * embeddingLength, embeddingLength);
  return Array.from({ length: used }, (_, i) => one(i)).reduce((sum, part) => builder.add(sum, part));
}

/** The experts of each token and their weights. */
function route(context: BlockContext, block: Experts, { hidden, columns }: Flow, input: Tensor): ChosenInputs {
  const { builder } = context;
  const { count, used, gating, normalized, scale } = block.routing;
  const logits = project(context, block, "ffn_gate_inp", block.beside ? routerInput(context, block, hidden) : input);
  const probabilities =
    gating === "softmax" ? builder.softmax(logits) : gating === "sigmoid" ? builder.sigmoid(logits) : logits;
  const ids = builder.largest(inChosenGroups(context, block, corrected(context, block, probabilities), columns), used);
  const chosen = builder.getRows(builder.reshape(probabilities, 1, count, columns), ids);
  const weights = builder.reshape(chosen, used, columns);
  const shared = gating === "softmaxOfChosen" ? builder.softmax(weights) : weights;
  const scaled = builder.scale(normalized ? builder.normalized(shared, leastSum) : shared, scale);
  const outputScales = context.weight(block, besideRoles.outputs);
  if (outputScales === null) return { ids, weights: scaled };
  const ofAll = builder.multiply(builder.filled(logits, 1), outputScales);
  const ofChosen = builder.getRows(builder.reshape(ofAll, 1, count, columns), ids);
  return { ids, weights: builder.multiply(scaled, builder.reshape(ofChosen, used, columns)) };
}

/** The input of a router that has its own scale (Gemma 4). */
function routerInput({ builder, weight }: BlockContext, block: Experts, hidden: Tensor): Tensor {
  const normed = builder.scale(builder.norm(hidden, null, block.norm), 1 / Math.sqrt(block.embeddingLength));
  return builder.multiply(normed, weight(block, besideRoles.router)!);
}

/** Keeps a division from overflowing f16: as llama.cpp has it. */
const leastSum = 6.103515625e-5;

/** What experts are chosen by: their probabilities, corrected if the model does that. */
function corrected(context: BlockContext, block: Experts, probabilities: Tensor): Tensor {
  const bias = context.weight(block, correctionRole);
  return bias === null ? probabilities : context.builder.add(probabilities, bias);
}

/** Leaves of the values only those of the groups whose two best have the largest sums; others become -Infinity. */
function inChosenGroups({ builder }: BlockContext, { routing }: Experts, values: Tensor, columns: number): Tensor {
  const { groups, groupsUsed, count } = routing;
  if (groups <= 1) return values;
  const byGroup = builder.reshape(values, count / groups, groups, columns);
  const bestTwo = builder.largest(byGroup, 2);
  const rows = builder.reshape(byGroup, 1, count / groups, groups, columns);
  const sums = builder.sumRows(builder.reshape(builder.getRows(rows, bestTwo), 2, groups, columns));
  const best = builder.largest(builder.reshape(sums, groups, columns), groupsUsed);
  const kept = builder.getRows(byGroup, best);
  const none = builder.filled(byGroup, Number.NEGATIVE_INFINITY);
  return builder.reshape(builder.setRows(none, kept, best), count, columns);
}

/** (embedding length, used, columns): what each chosen expert gives. */
function expertOutputs(context: BlockContext, block: Experts, input: Tensor, ids: Tensor): Tensor {
  const { builder } = context;
  return gatedNetwork(builder, block.activation, input, (stem, to) => {
    const product = builder.matMulId(context.experts(block, `${stem}_exps.weight`), to, ids);
    const bias = context.weight(block, `${stem}_exps.bias`);
    return bias === null ? product : builder.addId(product, bias, ids);
  });
}

/** The shared expert's output; empty if there is none, or the rank has no share of it. */
function shared(context: BlockContext, block: Experts, { hidden }: Flow, experts: Tensor): Tensor[] {
  const { builder } = context;
  if (context.weight(block, `${sharedStem(block, "ffn_up")}.weight`) === null) return [];
  const input = block.beside ? normedBy(context, block, besideRoles.before, hidden) : experts;
  const apply = (stem: GatedProjection, to: Tensor) => project(context, block, sharedStem(block, stem), to);
  const own = gatedNetwork(builder, block.activation, input, apply);
  const factors = context.weight(block, sharedGateRole);
  if (factors === null) return [own];
  // silu(x) / x is the sigmoid of x, with llama.cpp's rounding.
  const open = builder.matMul(factors, input);
  return [builder.multiply(own, builder.divideColumns(builder.silu(open), open))];
}
