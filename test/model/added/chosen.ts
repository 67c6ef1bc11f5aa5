import type { Architecture } from "#stellium/model/architecture";
import {
  addSum,
  type BlockContext,
  type BlockDefinition,
  type BlockFacts,
  type BlockKind,
  blockInput,
  type ChosenValues,
  type Flow,
  project,
  type RankBlock,
} from "#stellium/model/blocks/block";
import type { Hyperparameters } from "#stellium/model/hyperparameters";
import type { TensorFinder } from "#stellium/model/tensorFinder";
import type { Tensor } from "#stellium/native/ggml";

// A kind of block that the tests add: a few feed-forward networks, of which a router chooses some for each token.

/** Experts that each token gets. */
export const used = 2;

/** A mixture of experts, whose columns ranks share, added to its input. */
interface ChosenBlock extends BlockFacts {
  readonly kind: "chosen";
  readonly count: number;
  readonly feedForwardLength: number;
  /** Whether one rank computes the router and all take what it says, instead of each computing it. */
  readonly agreed: boolean;
  /** Whether all ranks but the first one compute the router as if their CPUs rounded much more coarsely. */
  readonly coarse: boolean;
}

function describeExperts(
  finder: TensorFinder,
  architecture: Architecture,
  { embeddingLength, feedForwardLength, norm, residualScale }: Hyperparameters,
  layer: number,
): ChosenBlock {
  const unit = "ffn" as const;
  const from = finder.layer(layer, architecture);
  const agreed = architecture.name === agreedExperts.name;
  const coarse = architecture.name === coarseExperts.name;
  let count = 0;
  while (from.has(`ffn_up.${count}.weight`)) count++;
  const rows = { axis: "rows", unit, each: 1 } as const;
  const columns = { axis: "columns", unit, each: 1 } as const;
  const { weights: norms, before, after } = from.norms("ffn_norm", "post_ffw_norm", embeddingLength, unit);
  const experts = Array.from({ length: count }, (_, expert) => [
    from.matrix(`ffn_gate.${expert}.weight`, embeddingLength, feedForwardLength, rows),
    from.matrix(`ffn_up.${expert}.weight`, embeddingLength, feedForwardLength, rows),
    from.matrix(`ffn_down.${expert}.weight`, feedForwardLength, embeddingLength, columns),
  ]);
  const router = from.matrix("ffn_gate_inp.weight", embeddingLength, count, {
    axis: agreed ? "once" : "replicated",
    unit,
  });
  const weights = [...norms, router, ...experts.flat()];
  const facts = { layer, weights, embeddingLength, feedForwardLength, norm, before, after, residualScale };
  return { kind: "chosen", ...facts, count, agreed, coarse };
}

/** See `ChosenBlock`. */
export const chosen: BlockDefinition<ChosenBlock> = {
  describe: describeExperts,
  steps: ({ count, agreed }) => [
    { does: "compute", leaves: count, append: appendRouter },
    ...(agreed ? [{ does: "sum" } as const] : []),
    { does: "choose", ids: used, weights: used, among: count, choose },
    { does: "compute", append: appendChosen },
    { does: "sum" },
    addSum,
  ],
  state: () => undefined,
  cost: (_, { ffn }) => ({ workingValues: 4 * used * ffn.count, computes: "tokens" }),
};

type Experts = RankBlock<ChosenBlock>;

/** By how much values of the router differ on ranks that are coarse, more or less. */
const coarseness = 1e-3;

function appendRouter(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (context.weight(block, "ffn_gate_inp.weight") === null) return { ...flow, partial: null };
  const { builder, share } = context;
  const input = blockInput(context, block, flow.hidden);
  const logits = project(context, block, "ffn_gate_inp", input);
  if (!block.coarse || share.ffn.start === 0) return { ...flow, partial: logits };
  const off = builder.scale(input, coarseness);
  const other = builder.partOfColumns(off, block.embeddingLength, flow.columns, 0, block.count);
  return { ...flow, partial: builder.add(logits, other) };
}

/** The experts of the largest logits, with the softmax over those as their weights. */
function choose({ count }: Experts, logits: Float32Array, { ids, weights }: ChosenValues): void {
  for (let token = 0; token * count < logits.length; token++) {
    const own = logits.subarray(token * count, (token + 1) * count);
    const best = [...own.keys()].sort((a, b) => own[b]! - own[a]!).slice(0, used);
    const sum = best.reduce((total, expert) => total + Math.exp(own[expert]! - own[best[0]!]!), 0);
    for (const [i, expert] of best.entries()) {
      ids[token * used + i] = expert;
      weights[token * used + i] = Math.exp(own[expert]! - own[best[0]!]!) / sum;
    }
  }
}

function appendChosen(context: BlockContext, block: Experts, flow: Flow): Flow {
  if (block.empty) return { ...flow, partial: null };
  const { builder } = context;
  const { hidden, columns } = flow;
  const { ids, weights } = flow.chosen!;
  const length = block.embeddingLength;
  const input = builder.reshape(blockInput(context, block, hidden), length, 1, columns);
  const gate = builder.matMulId(allOf(context, block, "ffn_gate"), input, ids);
  const up = builder.matMulId(allOf(context, block, "ffn_up"), input, ids);
  const down = builder.matMulId(allOf(context, block, "ffn_down"), builder.gated("silu", gate, up), ids);
  const weighted = builder.multiply(down, builder.reshape(weights, 1, used, columns));
  const parts = Array.from({ length: used }, (_, i) =>
    builder.partOfColumns(weighted, used * length, columns, i * length, length),
  );
  return { ...flow, partial: parts.reduce((sum, part) => builder.add(sum, part)) };
}

/** (inputs, outputs, experts) */
function allOf(context: BlockContext, block: Experts, stem: string): Tensor {
  const each = Array.from({ length: block.count }, (_, i) => context.weight(block, `${stem}.${i}.weight`)!);
  return each.reduce((all, one) => context.builder.concat(all, one, 2));
}

const layer = ["attention", "chosen"] as unknown as readonly BlockKind[];

/** Each rank computes the router, and all come to the same. libllama has to know the name, for its vocabulary. */
export const alikeExperts: Architecture = { name: "codeshell", models: "tests", rope: "norm", layer };

/** One rank computes the router, and all take its values. */
export const agreedExperts: Architecture = { ...alikeExperts, name: "plamo" };

/** Each rank computes the router, and comes to something else. */
export const coarseExperts: Architecture = { ...alikeExperts, name: "orion" };
