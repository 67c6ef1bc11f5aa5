import { StelliumError } from "../errors.ts";
import { extraBufferTypes } from "../native/backend.ts";
import { type BufferType, type Context, type Device, type Ggml, required, type Tensor } from "../native/ggml.ts";
import { tensorTypes } from "../native/tensorTypes.ts";
import type { GgufTensor } from "./gguf/model.ts";

/** What a layout is chosen for: a tensor, or a part of one with a shape of its own. */
export type Matrix = Pick<GgufTensor, "name" | "type" | "shape">;

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

  /** The device's first choice for multiplying by a matrix. Throws `MODEL_UNSUPPORTED` naming the tensor if it cannot. */
  forMatrix(tensor: Matrix): Layout {
    const key = `${tensor.type} ${tensor.shape.join(" ")}`;
    let layout = this.#chosen.get(key);
    if (layout === undefined) {
      layout = [...this.#extra, this.plain].find((candidate) => this.#multiplies(tensor, candidate));
      if (layout === undefined) throw unsupported(tensor);
      this.#chosen.set(key, layout);
    }
    return layout;
  }

  /** The layout of this name, where the device has it. */
  named(name: string): Layout | undefined {
    return [this.plain, ...this.#extra].find((layout) => layout.name === name);
  }

  /** ggml answers for a tensor in a buffer, so one is made for asking. Its memory is never touched. */
  #multiplies(tensor: Matrix, { name, bufferType }: Layout): boolean {
    if (name === "AMX" && tensor.shape[0]! < leastAmxColumns) return false;
    const ggml = this.#ggml;
    const context = describingContext(ggml, 3);
    try {
      const weight = newTensor(ggml, context, tensor, tensor.shape[1]!);
      const buffer = required(ggml.allocateBuffer(bufferType, allocationBytes(ggml, bufferType, weight)), "allocation");
      ggml.placeTensor(buffer, weight, ggml.bufferBase(buffer));
      const input = ggml.newTensor2d(context, tensorTypes.F32.id, tensor.shape[0]!, 1);
      const answer = ggml.deviceSupports(this.#device, ggml.mulMat(context, weight, input));
      ggml.freeBuffer(buffer);
      return answer;
    } finally {
      ggml.free(context);
    }
  }
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

/** Describes a tensor, or the first `rows` rows of it. */
export function newTensor(ggml: Ggml, context: Context, tensor: Pick<GgufTensor, "type" | "shape">, rows: number) {
  const { id } = tensorTypes[tensor.type];
  if (tensor.shape.length === 1) return ggml.newTensor1d(context, id, tensor.shape[0]!);
  return ggml.newTensor2d(context, id, tensor.shape[0]!, rows);
}

function unsupported({ name, type }: Matrix): StelliumError {
  const reason = `this device does not multiply by its tensor ${name} of type ${type}`;
  return new StelliumError("MODEL_UNSUPPORTED", { model: "the model", reason });
}
