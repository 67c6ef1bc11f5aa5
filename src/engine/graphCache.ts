import { StelliumError } from "../errors.ts";
import type { GraphBuilder } from "../model/graphBuilder.ts";
import type { ComputeBackend } from "../native/backend.ts";
import { type Ggml, type GraphAllocator, graphStatus, required } from "../native/ggml.ts";

/** Graphs that are built, placed and forgotten together. */
export interface BuiltGraphs {
  readonly builders: readonly GraphBuilder[];
}

/**
 * Keeps the graphs that were used last, by key. All share one buffer for intermediate results, so that only one of them is
 * computed at a time.
 */
export class GraphCache<K, G extends BuiltGraphs> implements Disposable {
  readonly #ggml: Ggml;
  readonly #kept: number;
  readonly #purpose: string;
  readonly #allocator: GraphAllocator;
  readonly #graphs = new Map<K, G>();
  #growth = 0;

  /**
   * @param kept - how many keys have graphs at a time
   * @param purpose - completes "making room for" in errors
   */
  constructor(ggml: Ggml, { device }: ComputeBackend, kept: number, purpose: string) {
    this.#ggml = ggml;
    this.#kept = kept;
    this.#purpose = purpose;
    this.#allocator = required(ggml.newGraphAllocator(ggml.deviceBufferType(device)), "allocating graphs");
  }

  /** Bytes of the shared buffer. */
  get bytes(): number {
    return Number(this.#ggml.allocatorBytes(this.#allocator, 0));
  }

  /** Counts how often the buffer has grown, which voids all graphs handed out before. */
  get growth(): number {
    return this.#growth;
  }

  /** The graphs of this key, built at their first use. Throws `NATIVE_FAILED` and what `build` does. */
  of(key: K, build: () => G): G {
    let graphs = this.#graphs.get(key);
    if (graphs === undefined) {
      graphs = build();
      this.#place(graphs);
    }
    // The last one of a map is the one that was used last.
    this.#graphs.delete(key);
    this.#graphs.set(key, graphs);
    this.#forget(this.#kept);
    return graphs;
  }

  [Symbol.dispose](): void {
    this.#forget(0);
    this.#ggml.freeGraphAllocator(this.#allocator);
  }

  /** ggml places a graph only once, so the buffer grows before any is placed; those placed in it earlier are void then. */
  #place({ builders }: BuiltGraphs): void {
    const before = this.bytes;
    const reserved = builders.every(({ graph }) => this.#ggml.reserveGraph(this.#allocator, graph));
    if (this.bytes !== before) {
      this.#forget(0);
      this.#growth++;
    }
    if (reserved && builders.every(({ graph }) => this.#ggml.allocateGraph(this.#allocator, graph))) return;
    throw new StelliumError("NATIVE_FAILED", { operation: `making room for ${this.#purpose}` });
  }

  #forget(kept: number): void {
    for (const [key, { builders }] of this.#graphs) {
      if (this.#graphs.size <= kept) return;
      this.#graphs.delete(key);
      for (const builder of builders) builder[Symbol.dispose]();
    }
  }
}

/** Computes a graph. Returns false if the abort flag stopped it. Throws `ENGINE_FAILED`. */
export function computeGraph(ggml: Ggml, { backend }: ComputeBackend, { graph }: GraphBuilder): boolean {
  const status = ggml.compute(backend, graph);
  if (status === graphStatus.success) return true;
  if (status === graphStatus.aborted) return false;
  throw new StelliumError("ENGINE_FAILED", { reason: `ggml's status is ${status}` });
}
