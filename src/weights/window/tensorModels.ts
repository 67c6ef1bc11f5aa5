import { StelliumError } from "../../errors.ts";
import { type Buffer, type Context, type Device, type Ggml, required, type Tensor } from "../../native/ggml.ts";
import { type Repoint, repointing } from "../../native/tensorData.ts";
import { rowBytes } from "../../native/tensorTypes.ts";
import { type Layout, Layouts, newTensor } from "../layout.ts";
import type { StoredTensor } from "../slice.ts";
import type { BlockMap } from "./blockMap.ts";

/**
 * Describes tensors whose data lies anywhere. ggml tells a tensor's layout by the type of the buffer it is in, and has no
 * buffers around given memory but plain ones. So there is one buffer for each layout, as large as the largest tensor,
 * that all tensors of the layout are placed in, and then told that their data lies elsewhere. The memory of these
 * buffers is never touched: it costs addresses only.
 */
export class TensorModels {
  readonly buffers: Buffer[] = [];
  readonly #ggml: Ggml;
  readonly #context: Context;
  readonly #path: string;
  readonly #layouts: Layouts;
  readonly #byLayout = new Map<Layout, { readonly buffer: Buffer; readonly bytes: number }>();
  readonly #most: number;
  #repointing: ((tensor: Tensor) => Repoint) | undefined;

  constructor(ggml: Ggml, device: Device, context: Context, { files, blocks }: BlockMap) {
    const tensors = blocks.flatMap((block) => block.tensors);
    this.#ggml = ggml;
    this.#context = context;
    this.#path = files[0]!;
    this.#layouts = new Layouts(ggml, device);
    this.#most = tensors.reduce((most, { bytes }) => Math.max(most, bytes), 64);
  }

  /** Throws `SLICE_INVALID` where the device has no such layout, or another length for it. */
  describe(tensor: StoredTensor): { handle: Tensor; repoint: Repoint } {
    const layout = this.#layouts.named(tensor.layout);
    const handle = newTensor(this.#ggml, this.#context, tensor, tensor.rows.count);
    if (layout === undefined || this.#lengthOf(handle, layout) > tensor.bytes) throw this.#misfit(tensor);
    const buffer = this.#buffer(layout, tensor.bytes);
    this.#ggml.placeTensor(buffer, handle, this.#ggml.bufferBase(buffer));
    this.#repointing ??= repointing(this.#ggml, handle);
    return { handle, repoint: this.#repointing(handle) };
  }

  /**
   * Describes tensors of one shape as one tensor of three dimensions, that lie so many bytes apart. See `describe`.
   *
   * @param distance - from the start of one to the start of the next
   */
  stack(tensor: StoredTensor, count: number, distance: number): { handle: Tensor; repoint: Repoint } {
    const ggml = this.#ggml;
    const { rows, columns, type } = tensor;
    const layout = this.#layouts.named(tensor.layout);
    const row = rowBytes(type, columns.count);
    // A view has to lie within what it is a view of: as many rows of the same kind as cover all.
    const all = Math.ceil(((count - 1) * distance) / row) + rows.count;
    if (layout === undefined) throw this.#misfit(tensor);
    const base = newTensor(ggml, this.#context, tensor, all);
    const buffer = this.#buffer(layout, Number(ggml.allocationSize(layout.bufferType, base)));
    ggml.placeTensor(buffer, base, ggml.bufferBase(buffer));
    const handle = ggml.view3d(this.#context, base, columns.count, rows.count, count, row, distance, 0);
    ggml.initView(handle);
    this.#repointing ??= repointing(ggml, base);
    return { handle, repoint: this.#repointing(handle) };
  }

  #lengthOf(handle: Tensor, layout: Layout): number {
    return Number(this.#ggml.allocationSize(layout.bufferType, handle));
  }

  /** A buffer of this layout and at least so many bytes. */
  #buffer(layout: Layout, bytes: number): Buffer {
    const known = this.#byLayout.get(layout);
    if (known !== undefined && known.bytes >= bytes) return known.buffer;
    const most = Math.max(this.#most, bytes);
    const buffer = required(this.#ggml.allocateBuffer(layout.bufferType, most), "describing weights");
    this.#ggml.setBufferUsage(buffer, 1);
    this.#byLayout.set(layout, { buffer, bytes: most });
    this.buffers.push(buffer);
    return buffer;
  }

  #misfit({ name, layout, bytes }: StoredTensor): StelliumError {
    const reason = `its tensor ${name} is ${layout} of ${bytes} bytes, which this device does not compute from`;
    return new StelliumError("SLICE_INVALID", { path: this.#path, reason });
  }
}
