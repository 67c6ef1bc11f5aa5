import { type Ggml, type Pointer, required, type Tensor } from "../../native/ggml.ts";
import { type Repoint, repointing } from "../../native/tensorData.ts";
import type { TensorSlice } from "../slice.ts";
import type { ExpertPool, WantedUnits } from "./expertPool.ts";
import { matrixOf, slotUnit } from "./slots.ts";

/** Where units lie. See `ExpertPool`. */
export interface ResidentParts {
  /** By unit: its class. */
  readonly classes: readonly number[];
  readonly place: (unit: number) => void;
  readonly tensor: (unit: number, role: string) => Tensor;
}

/** Experts that are all in memory. */
export class ResidentPool implements ExpertPool {
  readonly reads = false;
  readonly slots: number;
  readonly classes: number;
  readonly misses = 0;
  readonly readAhead = 0;
  readonly bytesRead = 0;
  readonly waitMs = 0;
  readonly place: ResidentParts["place"];
  readonly tensor: ResidentParts["tensor"];
  readonly #classOf: readonly number[];
  #hits = 0;
  #wanted: Int32Array = new Int32Array(0);
  #left = 0;

  constructor({ classes, place, tensor }: ResidentParts) {
    this.slots = classes.length;
    this.place = place;
    this.tensor = tensor;
    this.#classOf = classes;
    this.classes = new Set(classes).size;
  }

  get hits(): number {
    return this.#hits;
  }

  classOf(unit: number): number {
    return this.#classOf[unit]!;
  }

  pass(): void {}

  begin({ units, count }: WantedUnits): void {
    this.#wanted = units;
    this.#left = count;
    this.#hits += count;
  }

  next(): number {
    return this.#left === 0 ? -1 : this.#wanted[--this.#left]!;
  }

  stack(): undefined {}

  slotOf(): number {
    return 0;
  }

  release(): void {}
}

/** A tensor that is told where data of its shape lies. */
export interface ModelTensor {
  readonly tensor: Tensor;
  readonly repoint: Repoint;
}

/** A matrix of all experts of a block, one after the other. */
export interface StackedMatrix {
  readonly role: string;
  /** A tensor of one of them; matrices of other blocks may have the same. */
  readonly model: ModelTensor;
  /** Of the first one, and from each to the next one. */
  readonly address: Pointer;
  readonly distance: number;
}

/** Units that lie in stacks, by block. @param count - experts of each block */
export function stackedTensors(
  blocks: readonly { readonly count: number; readonly matrices: readonly StackedMatrix[] }[],
): ResidentParts {
  const classes: (readonly ModelTensor[])[] = [];
  const units = blocks.flatMap(({ count, matrices }) => {
    const models = matrices.map(({ model }) => model);
    const known = classes.findIndex((own) => own.every((model, i) => model === models[i]));
    const index = known < 0 ? classes.push(models) - 1 : known;
    return Array.from({ length: count }, (_, expert) => ({ index, expert, matrices }));
  });
  return {
    classes: units.map(({ index }) => index),
    place(unit) {
      const { expert, matrices } = units[unit]!;
      for (const { model, address, distance } of matrices) model.repoint(address + BigInt(expert * distance));
    },
    tensor: (unit, role) => units[unit]!.matrices.find((matrix) => matrix.role === role)!.model.tensor,
  };
}

/**
 * Units that have tensors of their own. Those of the first unit of each class are computed from, and told to lie where
 * those of others do.
 *
 * @param units - the parts of each, in order of computing
 * @param tensorOf - the tensor of a part's name
 */
export function ownTensors(
  ggml: Ggml,
  units: readonly (readonly TensorSlice[])[],
  tensorOf: (name: string) => Tensor,
): ResidentParts {
  const models = new Map<string, ReadonlyMap<string, ModelTensor>>();
  const known = units.map((parts) => {
    const { shape } = slotUnit(0, parts);
    const tensors = new Map(parts.map(({ name }) => [matrixOf(name), tensorOf(name)]));
    const model =
      models.get(shape) ?? mapped(tensors, (tensor) => ({ tensor, repoint: repointing(ggml, tensor)(tensor) }));
    models.set(shape, model);
    return {
      shape,
      model,
      addresses: mapped(tensors, (tensor): Pointer => required(ggml.getData(tensor), "reading experts")),
    };
  });
  const shapes = [...models.keys()];
  return {
    classes: known.map(({ shape }) => shapes.indexOf(shape)),
    place(unit) {
      const { model, addresses } = known[unit]!;
      for (const [role, address] of addresses) model.get(role)!.repoint(address);
    },
    tensor: (unit, role) => known[unit]!.model.get(role)!.tensor,
  };
}

function mapped<A, B>(from: ReadonlyMap<string, A>, to: (value: A) => B): Map<string, B> {
  return new Map([...from].map(([key, value]) => [key, to(value)]));
}
