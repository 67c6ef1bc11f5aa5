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
import { type Lane, mostGuesses } from "./lane.ts";

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
/** Most tokens of a pass whose experts are computed together: decoding. In prompts, each is multiplied with all its columns. */
const mostTogether = 8;
const nodesOfExpert = 40;
const mostBiases = 8;

/** A block's experts, applied to the tokens of a lane. */
export interface ExpertWork {
  readonly block: RankBlock;
  readonly step: ExpertsStep<RankBlock>;
  readonly lane: Lane;
  /** Of each token, the experts that were chosen. */
  readonly ids: Int32Array;
  /** Experts that later blocks will probably choose: as many of each. */
  readonly guessed: { readonly blocks: readonly RankBlock[]; readonly ids: Int32Array };
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

/** A way to apply experts to columns of the input. */
interface ApplyExperts {
  readonly name: string;
  /** Brings the input, (length, columns), into the shape that `project` takes. */
  shape(builder: GraphBuilder, input: Tensor, length: number, columns: number): Tensor;
  /** Multiplies by the matrices of this stem, and adds their biases, if there are any. */
  project(builder: GraphBuilder, unit: number, stem: string, input: Tensor, columns: number): Tensor;
}

/** Numbers that graphs look up: the graph's tensor, and its values. */
interface Numbers {
  readonly tensor: Tensor;
  readonly values: Int32Array;
}

/**
 * Computes what the chosen experts of a block give: those in memory first, the others as they come. In a prompt, each is
 * multiplied with all its columns at once. In decoding, those that are there are computed together, by one graph: each
 * graph has to wake the compute threads.
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
  /** By column: the token that an expert is applied to, where its result goes, the expert's slot and its number. */
  readonly #tokens: Numbers;
  readonly #places: Numbers;
  readonly #slots: Numbers;
  readonly #experts: Numbers;
  readonly #biases = new Map<string, BiasModel>();
  readonly #biasContext: Context;
  #repointing: ((tensor: Tensor) => Repoint) | undefined;
  /** Number of blocks with experts. */
  readonly #mixtures: number;
  /** For the current block: wanted units, how many tokens want each, pairs sorted by expert, and each expert's first pair. */
  readonly #wanted: Int32Array;
  readonly #uses: Int32Array;
  readonly #starts: Int32Array;
  readonly #pairs: Int32Array;
  #wantedCount = 0;
  /** Experts of each token. */
  #used = 1;
  /** Units that later blocks will probably want. */
  readonly #guessed: Int32Array;
  /** Units that are in memory and not computed yet. */
  readonly #batch: number[] = [];

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
    this.#uses = new Int32Array(most);
    this.#starts = new Int32Array(most + 1);
    this.#pairs = new Int32Array(used * tokens);
    this.#guessed = new Int32Array(mostGuesses * this.#pairs.length);
    const columns = used * tokens + columnStep;
    this.#context = describingContext(ggml, 4);
    const row = ({ id }: { id: number }) => ggml.newTensor1d(this.#context, id, columns);
    const [from, to, slots, experts] = [row(I32), row(I64), row(I32), row(I32)];
    this.#biasContext = describingContext(ggml, mostBiases);
    const type = ggml.deviceBufferType(backend.device);
    this.#buffer = required(ggml.allocateTensors(this.#context, type), "making room for experts");
    const view = (tensor: Tensor, count: number): Numbers => ({
      tensor,
      values: viewIntegers(required(ggml.getData(tensor), "reading inputs"), count),
    });
    this.#tokens = view(from, columns);
    this.#places = view(to, 2 * columns);
    this.#slots = view(slots, columns);
    this.#experts = view(experts, columns);
    this.#places.values.fill(0);
    this.#graphs = new GraphCache(ggml, backend, keptGraphs, "experts");
  }

  /** Begins a pass. @param tokens - number of its tokens */
  pass(tokens: number): void {
    this.#pool.pass(tokens);
  }

  /** Begins to bring the experts of a block into memory that a lane's tokens have chosen. What was begun before is over. */
  begin(work: ExpertWork): void {
    const { block, step } = work;
    const count = this.#sort(work);
    this.#wantedCount = count;
    this.#used = step.used;
    this.#pool.begin({
      ...{ units: this.#wanted, count, uses: this.#uses, passes: this.#passes(block, count) },
      ...{ expected: this.#guessed, expectedCount: this.#guess(work) },
    });
  }

  /**
   * Computes what the experts give that `begin` was asked for, into the lane. Returns false if it was stopped. Throws what
   * `ExpertPool.next` does.
   */
  run(work: ExpertWork): boolean {
    this.#placeBiases(work.block);
    for (let done = 0; done < this.#wantedCount; done += this.#batch.length) {
      if (!this.#nextBatch() || !this.#computeBatch(work)) return false;
      for (const unit of this.#batch) this.#pool.release(unit);
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
  #sort({ block, step, lane, ids }: ExpertWork): number {
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
      this.#uses[wanted] = end - start;
      if (units[expert]! >= 0) this.#wanted[wanted++] = units[expert]!;
      else lane.clearOutputs(step, this.#pairs.subarray(start, end));
    }
    return wanted;
  }

  /** Lists the units that later blocks will probably want, some of them several times. Returns the length of the list. */
  #guess({ guessed: { blocks, ids } }: ExpertWork): number {
    const each = ids.length / Math.max(1, blocks.length);
    let count = 0;
    for (let i = 0; i < ids.length; i++) {
      const unit = this.#held.get(blocks[Math.floor(i / each)]!)!.units[ids[i]!]!;
      if (unit >= 0) this.#guessed[count++] = unit;
    }
    return count;
  }

  /** True for a prompt: it uses most of the rank's experts of a block, and more over all blocks than there are slots. */
  #passes(block: RankBlock, wanted: number): boolean {
    return 2 * wanted > this.#held.get(block)!.count && wanted * this.#mixtures > this.#pool.slots;
  }

  /** Takes all units that are in memory; waits for one if there are none. Returns false if that was stopped. */
  #nextBatch(): boolean {
    this.#batch.length = 0;
    for (let unit = this.#pool.next(); unit >= 0; unit = this.#pool.next(false)) this.#batch.push(unit);
    return this.#batch.length > 0;
  }

  #computeBatch(work: ExpertWork): boolean {
    for (const unit of this.#batch) {
      if (!this.#joins(work, unit) && !this.#compute(work, unit, this.#append(unit, 0), this.#alone)) return false;
    }
    for (let kind = 0; kind < this.#pool.classes; kind++) {
      let [columns, first] = [0, -1];
      for (const unit of this.#batch) {
        if (this.#pool.classOf(unit) !== kind || !this.#joins(work, unit)) continue;
        columns = this.#append(unit, columns);
        first = unit;
      }
      if (columns > 0 && !this.#compute(work, first, columns, this.#together)) return false;
    }
    return true;
  }

  /** True if a unit is computed together with others of its class. */
  #joins({ block, step, ids }: ExpertWork, unit: number): boolean {
    const { role } = block.experts!.matrices[0]!;
    return ids.length <= mostTogether * step.used && this.#pool.stack(unit, role) !== undefined;
  }

  /** Lists a unit's columns from this one on. Returns the end of the list. */
  #append(unit: number, column: number): number {
    const expert = this.#expertOf[unit]!;
    const slot = this.#pool.slotOf(unit);
    let end = column;
    for (let i = this.#starts[expert]!; i < this.#starts[expert + 1]!; i++)
      this.#set(end++, this.#pairs[i]!, slot, expert);
    return end;
  }

  #set(column: number, pair: number, slot: number, expert: number): void {
    this.#tokens.values[column] = Math.floor(pair / this.#used);
    this.#places.values[2 * column] = pair;
    this.#slots.values[column] = slot;
    this.#experts.values[column] = expert;
  }

  /** Computes the columns that are listed, of a unit or of others of its class as well. Returns false if it was stopped. */
  #compute(work: ExpertWork, unit: number, listed: number, apply: ApplyExperts): boolean {
    const { ggml, backend } = this.#parts;
    const columns = roundedColumns(listed);
    // The last one again is computed again, to the same place.
    for (let column = listed; column < columns; column++) {
      for (const { values } of [this.#tokens, this.#slots, this.#experts]) values[column] = values[listed - 1]!;
      this.#places.values[2 * column] = this.#places.values[2 * listed - 2]!;
    }
    const key = `${work.lane.index} ${apply.name} ${this.#pool.classOf(unit)} ${columns}`;
    const { builders } = this.#graphs.of(key, () => ({ builders: [this.#build(work, unit, columns, apply)] }));
    if (apply === this.#alone) this.#pool.place(unit);
    return computeGraph(ggml, backend, builders[0]!);
  }

  #build({ block, step, lane }: ExpertWork, unit: number, columns: number, apply: ApplyExperts): GraphBuilder {
    const builder = new GraphBuilder(this.#parts.ggml, nodesOfExpert);
    const { input, outputs } = lane.experts(builder, step);
    const { embeddingLength } = block;
    const from = builder.getRows(input, builder.first(this.#tokens.tensor, columns));
    const project = (stem: string, to: Tensor) => apply.project(builder, unit, stem, to, columns);
    const given = step.append({ builder, project }, block, apply.shape(builder, from, embeddingLength, columns));
    const rows = builder.reshape(given, embeddingLength, columns);
    builder.expand(builder.setRows(outputs, rows, builder.first(this.#places.tensor, columns)));
    return builder;
  }

  /** One unit, with all columns at once. */
  readonly #alone: ApplyExperts = {
    name: "alone",
    shape: (_, input) => input,
    project: (builder, unit, stem, input) => {
      const product = builder.matMul(this.#pool.tensor(unit, `${stem}.weight`), input);
      const bias = this.#biases.get(`${stem}.bias`);
      return bias === undefined
        ? product
        : builder.add(product, builder.getRows(bias.tensor, builder.first(this.#experts.tensor, 1)));
    },
  };

  /** Units of a class, each with the columns that are its own. */
  readonly #together: ApplyExperts = {
    name: "together",
    shape: (builder, input, length, columns) => builder.reshape(input, length, 1, columns),
    project: (builder, unit, stem, input, columns) => {
      const ids = (numbers: Numbers) => builder.reshape(builder.first(numbers.tensor, columns), 1, columns);
      const stack = required(this.#pool.stack(unit, `${stem}.weight`) ?? null, "finding experts");
      const product = builder.matMulId(stack, input, ids(this.#slots));
      const bias = this.#biases.get(`${stem}.bias`);
      return bias === undefined ? product : builder.addId(product, bias.tensor, ids(this.#experts));
    },
  };

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
