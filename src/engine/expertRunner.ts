import type { ExpertsStep, RankBlock } from "../model/blocks/block.ts";
import { heldExperts } from "../model/expertWeights.ts";
import { GraphBuilder } from "../model/graphBuilder.ts";
import type { ComputeBackend } from "../native/backend.ts";
import { type Buffer, type Context, type Ggml, required, type Tensor } from "../native/ggml.ts";
import { viewIntegers } from "../native/memory.ts";
import { type Repoint, repointing } from "../native/tensorData.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import { describingContext } from "../weights/layout.ts";
import type { ExpertPool } from "../weights/pool/expertPool.ts";
import type { Weights } from "../weights/weights.ts";
import { type BuiltGraphs, computeGraph, GraphCache } from "./graphCache.ts";
import type { Lane } from "./lane.ts";

export interface ExpertParts {
  readonly ggml: Ggml;
  readonly backend: ComputeBackend;
  readonly weights: Weights;
  /** All blocks of the rank, in order. */
  readonly blocks: readonly RankBlock[];
  /** Most tokens of a lane. */
  readonly tokens: number;
}

/** Graphs kept for further experts: of each lane, each class of slots, and each number of columns. */
const keptGraphs = 64;
/** Beyond a few, columns are rounded up to a multiple of that, so that there are fewer graphs. */
const columnStep = 4;
const nodesOfExpert = 40;
const mostBiases = 8;

/** A block's experts, applied to the tokens of a lane. */
export interface ExpertWork {
  readonly block: RankBlock;
  readonly step: ExpertsStep<RankBlock>;
  readonly lane: Lane;
  /** Of each token, the experts that were chosen. */
  readonly ids: Int32Array;
}

/** The rank's experts of a block. */
interface HeldExperts {
  /** The unit of each expert; -1 of those that the rank has no part of. */
  readonly units: Int32Array;
  /** Number of experts that it has a part of. */
  readonly count: number;
}

/** A bias of all experts, (length, experts), that graphs are built with: told for each block where it lies. */
interface BiasModel {
  readonly tensor: Tensor;
  readonly repoint: Repoint;
}

/**
 * Computes what the chosen experts of a block give, expert by expert: those in memory first, the others as they come. Each
 * is multiplied with all its columns at once.
 */
export class ExpertRunner implements Disposable {
  readonly #parts: ExpertParts;
  readonly #pool: ExpertPool;
  readonly #held = new Map<RankBlock, HeldExperts>();
  /** By unit: its expert's number in its block. */
  readonly #expertOf: Int32Array;
  readonly #context: Context;
  readonly #buffer: Buffer;
  readonly #graphs: GraphCache<string, BuiltGraphs>;
  /** The expert, and the columns of tokens it is applied to, and where its results go. */
  readonly #expert: { readonly tensor: Tensor; readonly values: Int32Array };
  readonly #tokens: { readonly tensor: Tensor; readonly values: Int32Array };
  readonly #places: { readonly tensor: Tensor; readonly values: Int32Array };
  readonly #biases = new Map<string, BiasModel>();
  readonly #biasContext: Context;
  #repointing: ((tensor: Tensor) => Repoint) | undefined;
  /** Number of blocks with experts. */
  readonly #mixtures: number;
  /** For the current block: wanted units, pairs sorted by expert, and the first pair of each expert. */
  readonly #wanted: Int32Array;
  #wantedCount = 0;
  readonly #starts: Int32Array;
  readonly #pairs: Int32Array;

  constructor(parts: ExpertParts, pool: ExpertPool) {
    const { ggml, backend, blocks, tokens } = parts;
    const { I32, I64 } = tensorTypes;
    this.#parts = parts;
    this.#pool = pool;
    const expertOf: number[] = [];
    let [most, used] = [0, 0];
    for (const block of blocks) {
      const units = new Int32Array(block.experts?.count ?? 0).fill(-1);
      const held = heldExperts(block);
      for (const expert of held) units[expert] = expertOf.push(expert) - 1;
      this.#held.set(block, { units, count: held.length });
      most = Math.max(most, units.length);
      if (block.kind === "experts") used = Math.max(used, block.routing.used);
    }
    this.#expertOf = Int32Array.from(expertOf);
    this.#mixtures = [...this.#held.values()].filter(({ count }) => count > 0).length;
    this.#wanted = new Int32Array(most);
    this.#starts = new Int32Array(most + 1);
    this.#pairs = new Int32Array(used * tokens);
    const columns = tokens + columnStep;
    this.#context = describingContext(ggml, 3);
    this.#biasContext = describingContext(ggml, mostBiases);
    const [expert, from, to] = [
      ggml.newTensor1d(this.#context, I32.id, 1),
      ggml.newTensor1d(this.#context, I32.id, columns),
      ggml.newTensor1d(this.#context, I64.id, columns),
    ];
    const type = ggml.deviceBufferType(backend.device);
    this.#buffer = required(ggml.allocateTensors(this.#context, type), "making room for experts");
    const view = (tensor: Tensor, count: number) => ({
      tensor,
      values: viewIntegers(required(ggml.getData(tensor), "reading inputs"), count),
    });
    this.#expert = view(expert, 1);
    this.#tokens = view(from, columns);
    this.#places = view(to, 2 * columns);
    this.#places.values.fill(0);
    this.#graphs = new GraphCache(ggml, backend, keptGraphs, "experts");
  }

  /** Begins to bring the experts of a block into memory that a lane's tokens have chosen. What was begun before is over. */
  begin({ block, step, lane, ids }: ExpertWork): void {
    this.#wantedCount = this.#sort(block, step, lane, ids);
    this.#pool.begin(this.#wanted, this.#wantedCount, this.#passes(block, this.#wantedCount));
  }

  /**
   * Computes what the experts give that `begin` was asked for, into the lane. Returns false if it was stopped. Throws what
   * `ExpertPool.next` does.
   */
  run({ block, step, lane }: ExpertWork): boolean {
    this.#placeBiases(block);
    for (let done = 0; done < this.#wantedCount; done++) {
      const unit = this.#pool.next();
      if (unit < 0 || !this.#compute(block, step, lane, unit)) return false;
      this.#pool.release(unit);
    }
    return true;
  }

  [Symbol.dispose](): void {
    const { ggml } = this.#parts;
    this.#graphs[Symbol.dispose]();
    ggml.freeBuffer(this.#buffer);
    ggml.free(this.#context);
    ggml.free(this.#biasContext);
  }

  /**
   * Sorts the pairs of token and expert by expert, and lists the units that are wanted; the rank gives nothing to the
   * pairs of an expert that it has no part of. Returns how many are wanted.
   */
  #sort(block: RankBlock, step: ExpertsStep<RankBlock>, lane: Lane, ids: Int32Array): number {
    const starts = this.#starts.fill(0);
    for (let pair = 0; pair < ids.length; pair++) starts[ids[pair]! + 1]!++;
    for (let expert = 0; expert + 1 < starts.length; expert++) starts[expert + 1]! += starts[expert]!;
    // Each start moves to the end of its expert, and back.
    for (let pair = 0; pair < ids.length; pair++) this.#pairs[starts[ids[pair]!]!++] = pair;
    starts.copyWithin(1, 0);
    starts[0] = 0;
    const { units } = this.#held.get(block)!;
    let wanted = 0;
    for (let expert = 0; expert < units.length; expert++) {
      const [start, end] = [starts[expert]!, starts[expert + 1]!];
      if (start === end) continue;
      if (units[expert]! >= 0) this.#wanted[wanted++] = units[expert]!;
      else lane.clearOutputs(step, this.#pairs.subarray(start, end));
    }
    return wanted;
  }

  /** True for a prompt: it uses most of the rank's experts of a block, and more over all blocks than there are slots. */
  #passes(block: RankBlock, wanted: number): boolean {
    return 2 * wanted > this.#held.get(block)!.count && wanted * this.#mixtures > this.#pool.slots;
  }

  #compute(block: RankBlock, step: ExpertsStep<RankBlock>, lane: Lane, unit: number): boolean {
    const { ggml, backend } = this.#parts;
    const expert = this.#expertOf[unit]!;
    const [start, end] = [this.#starts[expert]!, this.#starts[expert + 1]!];
    const columns = roundedColumns(end - start);
    for (let column = 0; column < columns; column++) {
      // The last one again is computed again, to the same place.
      const pair = this.#pairs[Math.min(start + column, end - 1)]!;
      this.#tokens.values[column] = Math.floor(pair / step.used);
      this.#places.values[2 * column] = pair;
    }
    this.#expert.values[0] = expert;
    this.#pool.place(unit);
    return computeGraph(ggml, backend, this.#graphOf(block, step, lane, unit, columns));
  }

  #graphOf(block: RankBlock, step: ExpertsStep<RankBlock>, lane: Lane, unit: number, columns: number): GraphBuilder {
    const key = `${lane.index} ${this.#pool.classOf(unit)} ${columns}`;
    const { builders } = this.#graphs.of(key, () => ({ builders: [this.#build(block, step, lane, unit, columns)] }));
    return builders[0]!;
  }

  #build(block: RankBlock, step: ExpertsStep<RankBlock>, lane: Lane, unit: number, columns: number): GraphBuilder {
    const builder = new GraphBuilder(this.#parts.ggml, nodesOfExpert);
    const { input, outputs } = lane.experts(builder, step);
    const context = {
      builder,
      matrix: (role: string) => this.#pool.tensor(unit, role),
      bias: (role: string) => {
        const bias = this.#biases.get(role);
        return bias === undefined ? null : builder.getRows(bias.tensor, this.#expert.tensor);
      },
    };
    const given = step.append(context, block, builder.getRows(input, builder.first(this.#tokens.tensor, columns)));
    builder.expand(builder.setRows(outputs, given, builder.first(this.#places.tensor, columns)));
    return builder;
  }

  /** Tells the biases of all experts where those of a block lie. */
  #placeBiases(block: RankBlock): void {
    const { ggml, weights } = this.#parts;
    for (const { role, name, columns, rows } of block.weights) {
      if (!/_exps\.bias$/.test(role)) continue;
      const own = weights.get(name);
      let bias = this.#biases.get(role);
      if (bias === undefined) {
        this.#repointing ??= repointing(ggml, own);
        const tensor = ggml.newTensor2d(this.#biasContext, tensorTypes.F32.id, columns.count, rows.count);
        bias = { tensor, repoint: this.#repointing(tensor) };
        this.#biases.set(role, bias);
      }
      bias.repoint(required(ggml.getData(own), "reading a bias"));
    }
  }
}

function roundedColumns(columns: number): number {
  return columns <= 2 * columnStep ? columns : Math.ceil(columns / columnStep) * columnStep;
}
