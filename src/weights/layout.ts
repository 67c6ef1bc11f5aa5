import { StelliumError } from "../errors.ts";
import { extraBufferTypes } from "../native/backend.ts";
import { type BufferType, type Context, type Device, type Ggml, required, type Tensor } from "../native/ggml.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import { pageBytes, roundUp } from "./pages.ts";
import type { StoredTensor, TensorPart } from "./slice.ts";

/** How a tensor lies in memory. */
export interface Layout {
  /** ggml's name of the buffer type: `CPU` for the plain layout, `CPU_REPACK` or `AMX` for interleaved rows. */
  readonly name: string;
  readonly bufferType: BufferType;
  /** Whether bytes go into place as they are in the file. */
  readonly plain: boolean;
}

/** Layouts whose rows can be converted in groups: a conversion of the whole equals those of its parts, in a row. */
const convertibleInParts = new Set(["CPU_REPACK", "AMX"]);

/**
 * ggml 0.25 multiplies batches of 32 tokens and more wrongly by an AMX matrix of 32 columns: what is left in its work
 * buffer gets into the result. Whole models have no such matrices, but a slice of one may.
 */
const leastAmxColumns = 64;

/** Groups of rows that every such layout converts independently of the others. */
export const rowGroup = 64;

/** The layouts a device has, and which of them it computes fastest from for a given tensor. */
export class Layouts {
  readonly plain: Layout;
  readonly #ggml: Ggml;
  readonly #device: Device;
  readonly #extra: readonly Layout[];
  readonly #chosen = new Map<string, Layout>();

  constructor(ggml: Ggml, device: Device) {
    const layout = (bufferType: BufferType, plain: boolean) => ({
      name: ggml.bufferTypeName(bufferType),
      bufferType,
      plain,
    });
    const bufferType = ggml.deviceBufferType(device);
    this.#ggml = ggml;
    this.#device = device;
    this.plain = layout(bufferType, ggml.bufferTypeIsHost(bufferType));
    this.#extra = extraBufferTypes(device).map((type) => layout(type, false));
  }

  /**
   * The device's first choice for multiplying by a matrix; for a vector, and several matrices side by side, the plain
   * layout. Throws `MODEL_UNSUPPORTED` naming the tensor if the device cannot multiply by it.
   */
  forPart(part: TensorPart): Layout {
    if (part.kind === "vector") return this.plain;
    const { matrixRows, ...matrix } = part;
    const key = `${part.kind} ${part.type} ${part.columns.count} ${part.rows.count} ${matrixRows}`;
    let layout = this.#chosen.get(key);
    if (layout === undefined) {
      const candidates = matrixRows === undefined ? [...this.#extra, this.plain] : [this.plain];
      layout = candidates.find((candidate) => this.#multiplies(matrix, candidate));
      if (layout === undefined) throw unsupported(part);
      this.#chosen.set(key, layout);
    }
    return layout;
  }

  /** The layout of this name, where the device has it. */
  named(name: string): Layout | undefined {
    return [this.plain, ...this.#extra].find((layout) => layout.name === name);
  }

  /** ggml answers for a tensor in a buffer, so one is made for asking. Its memory is never touched. */
  #multiplies(matrix: TensorPart, { name, bufferType }: Layout): boolean {
    const columns = matrix.columns.count;
    if (name === "AMX" && columns < leastAmxColumns) return false;
    const ggml = this.#ggml;
    const context = describingContext(ggml, 4);
    try {
      const weight =
        matrix.kind === "expert"
          ? newStack(ggml, context, matrix, 2)
          : newTensor(ggml, context, matrix, matrix.rows.count);
      const buffer = required(ggml.allocateBuffer(bufferType, allocationBytes(ggml, bufferType, weight)), "allocation");
      ggml.placeTensor(buffer, weight, ggml.bufferBase(buffer));
      const answer = ggml.deviceSupports(this.#device, product(ggml, context, weight, matrix));
      ggml.freeBuffer(buffer);
      return answer;
    } finally {
      ggml.free(context);
    }
  }
}

/** The multiplication by a matrix, or by one of two experts. */
function product(ggml: Ggml, context: Context, weight: Tensor, { kind, columns }: TensorPart): Tensor {
  const { F32, I32 } = tensorTypes;
  if (kind !== "expert") return ggml.mulMat(context, weight, ggml.newTensor2d(context, F32.id, columns.count, 1));
  const input = ggml.newTensor3d(context, F32.id, columns.count, 1, 1);
  return ggml.mulMatId(context, weight, input, ggml.newTensor2d(context, I32.id, 1, 1));
}

/** Whether a tensor can be brought into a layout some rows at a time. */
export function convertsInParts(layout: Layout, rows: number): boolean {
  return layout.plain || (convertibleInParts.has(layout.name) && rows % rowGroup === 0);
}

/** Bytes a tensor takes in a buffer of a type, padded so that the next one is aligned. */
export function allocationBytes(ggml: Ggml, type: BufferType, tensor: Tensor): number {
  return Math.ceil(Number(ggml.allocationSize(type, tensor)) / 64) * 64;
}

/** A context with room to describe `tensors` tensors. */
export function describingContext(ggml: Ggml, tensors: number): Context {
  const mem_size = Number(ggml.tensorOverhead()) * tensors;
  return required(ggml.init({ mem_size, mem_buffer: null, no_alloc: true }), "describing tensors");
}

/** Describes `rows` rows of a part. */
export function newTensor(ggml: Ggml, context: Context, part: Omit<TensorPart, "name" | "rows">, rows: number): Tensor {
  const { id } = tensorTypes[part.type];
  const { kind, columns, matrixRows } = part;
  if (kind === "vector") return ggml.newTensor1d(context, id, columns.count);
  if (matrixRows !== undefined) return ggml.newTensor3d(context, id, columns.count, matrixRows, rows / matrixRows);
  return ggml.newTensor2d(context, id, columns.count, rows);
}

/** Describes `count` parts of the shape of one, which follow on each other without a gap. */
export function newStack(ggml: Ggml, context: Context, { type, columns, rows }: TensorPart, count: number): Tensor {
  return ggml.newTensor3d(context, tensorTypes[type].id, columns.count, rows.count, count);
}

/** A part with its layout and its place: a `StoredTensor` that keeps all that was known of it before. */
export type LaidOut<T extends TensorPart> = T & Pick<StoredTensor, "layout" | "offset" | "bytes">;

/**
 * Places tensors one after the other, each in the layout that the device computes fastest from. Those of one layout
 * are neighbors and start on a page border, so that they can be read into one buffer. Throws `MODEL_UNSUPPORTED`.
 *
 * @returns the tensors in the order they came, and the bytes they take together
 */
export function layOutTensors<T extends TensorPart>(
  ggml: Ggml,
  layouts: Layouts,
  parts: readonly T[],
): { readonly bytes: number; readonly tensors: readonly LaidOut<T>[] } {
  const chosen = parts.map((part) => ({ part, layout: layouts.forPart(part) }));
  const names = [...new Set(chosen.map(({ layout }) => layout.name))].sort();
  const places = new Map<T, { offset: number; bytes: number }>();
  let end = 0;
  for (const name of names) {
    end = roundUp(end, pageBytes);
    for (const { part, layout } of chosen.filter((entry) => entry.layout.name === name)) {
      const bytes = storedBytes(ggml, layout, part, part.rows.count);
      places.set(part, { offset: end, bytes });
      end += bytes;
    }
  }
  const tensors = chosen.map(({ part, layout }) => ({ ...part, layout: layout.name, ...places.get(part)! }));
  return { bytes: end, tensors };
}

/** Bytes that `rows` rows of a part take in a layout; see `allocationBytes`. */
export function storedBytes(ggml: Ggml, { bufferType }: Layout, part: TensorPart, rows: number): number {
  const context = describingContext(ggml, 1);
  try {
    return allocationBytes(ggml, bufferType, newTensor(ggml, context, part, rows));
  } finally {
    ggml.free(context);
  }
}

/** Number of tensors by name of layout. */
export function layoutCounts(tensors: readonly Pick<StoredTensor, "layout">[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { layout } of tensors) counts.set(layout, (counts.get(layout) ?? 0) + 1);
  return counts;
}

function unsupported({ name, type }: TensorPart): StelliumError {
  const reason = `this device does not multiply by its tensor ${name} of type ${type}`;
  return new StelliumError("MODEL_UNSUPPORTED", { model: "the model", reason });
}
