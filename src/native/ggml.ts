import { StelliumError } from "../errors.ts";
import koffi from "./koffi.ts";
import { nativeLibraries, orIncompatible } from "./libraries.ts";
import { type TensorTypeName, tensorTypes } from "./tensorTypes.ts";

/** An address in native memory. Handles of native objects are addresses, told apart by their names only. */
export type Pointer = bigint;
/** `ggml_context *`: room for tensor and graph descriptions, not for data. */
export type Context = Pointer;
/** `ggml_tensor *` */
export type Tensor = Pointer;
/** `ggml_cgraph *` */
export type Graph = Pointer;
/** `ggml_backend_dev_t` */
export type Device = Pointer;
/** `ggml_backend_t`: a device opened for computing. */
export type Backend = Pointer;
/** `ggml_backend_buffer_type_t`: a kind of memory, and the layout that tensors have in it. */
export type BufferType = Pointer;
/** `ggml_backend_buffer_t` */
export type Buffer = Pointer;
/** `ggml_gallocr_t`: places the intermediate tensors of graphs in one buffer. */
export type GraphAllocator = Pointer;

type Maybe = Pointer | null;
type RopeOperands = [ctx: Context, input: Tensor, positions: Tensor, factors: Maybe, dimensions: number];
type RopeScaling = [
  originalContext: number,
  freqBase: number,
  freqScale: number,
  extFactor: number,
  attnFactor: number,
  betaFast: number,
  betaSlow: number,
];
/** koffi gives 64-bit integers beyond 2^53 as bigint. */
type Long = number | bigint;

/**
 * RoPE pairings (`GGML_ROPE_TYPE_*`): neighbouring values, or halves of the head; `mrope` and `imrope` pair halves, too,
 * and turn sections of the pairs by different positions.
 */
export const ropeModes = { norm: 0, neox: 2, mrope: 8, imrope: 40 } as const;

/** `enum ggml_status` */
export const graphStatus = { allocFailed: -2, failed: -1, success: 0, aborted: 1 } as const;

const deviceTypeCpu = 0;

/** ggml's C interface, as far as Stellium uses it: opaque pointers, no struct but two that have not changed in years. */
export type Ggml = ReturnType<typeof bind>;

let bound: Ggml | undefined;

/** Binds ggml in this thread. Throws what `nativeLibraries` does, and `NATIVE_INCOMPATIBLE` when its ABI is another. */
export function openGgml(): Ggml {
  bound ??= checkAbi(orIncompatible(nativeLibraries().directory, bind));
  return bound;
}

function bind() {
  const { base, ggml } = nativeLibraries();
  // Anonymous: named types are global to the process, and every thread comes by here.
  const initParams = koffi.struct({ mem_size: "size_t", mem_buffer: "void *", no_alloc: "bool" });
  const fn = <T>(definition: string) => base.func(definition) as unknown as T;
  const registryFn = <T>(definition: string) => ggml.func(definition) as unknown as T;
  type Unary = (ctx: Context, a: Tensor) => Tensor;
  type Binary = (ctx: Context, a: Tensor, b: Tensor) => Tensor;
  const pointers = (count: number) => Array<string>(count).fill("void *");

  return {
    version: fn<() => string>("str ggml_version()"),
    typeSize: fn<(type: number) => Long>("size_t ggml_type_size(int)"),
    blockSize: fn<(type: number) => Long>("int64_t ggml_blck_size(int)"),
    tensorOverhead: fn<() => Long>("size_t ggml_tensor_overhead()"),
    graphOverhead: fn<(size: number, grads: boolean) => Long>("size_t ggml_graph_overhead_custom(size_t, bool)"),

    init: base.func("ggml_init", "void *", [initParams]) as unknown as (params: {
      mem_size: number;
      mem_buffer: null;
      no_alloc: boolean;
    }) => Maybe,
    free: fn<(ctx: Context) => void>("void ggml_free(void *)"),
    newTensor1d: fn<(ctx: Context, type: number, ne0: number) => Tensor>(
      "void *ggml_new_tensor_1d(void *, int, int64_t)",
    ),
    newTensor2d: fn<(ctx: Context, type: number, ne0: number, ne1: number) => Tensor>(
      "void *ggml_new_tensor_2d(void *, int, int64_t, int64_t)",
    ),
    newTensor3d: fn<(ctx: Context, type: number, ne0: number, ne1: number, ne2: number) => Tensor>(
      "void *ggml_new_tensor_3d(void *, int, int64_t, int64_t, int64_t)",
    ),
    setName: fn<(tensor: Tensor, name: string) => Tensor>("void *ggml_set_name(void *, str)"),
    nbytes: fn<(tensor: Tensor) => Long>("size_t ggml_nbytes(void *)"),
    getData: fn<(tensor: Tensor) => Maybe>("void *ggml_get_data(void *)"),

    mulMat: fn<Binary>("void *ggml_mul_mat(void *, void *, void *)"),
    mulMatId: fn<(ctx: Context, weights: Tensor, input: Tensor, ids: Tensor) => Tensor>(
      "void *ggml_mul_mat_id(void *, void *, void *, void *)",
    ),
    add: fn<Binary>("void *ggml_add(void *, void *, void *)"),
    addId: fn<(ctx: Context, a: Tensor, rows: Tensor, ids: Tensor) => Tensor>(
      "void *ggml_add_id(void *, void *, void *, void *)",
    ),
    mul: fn<Binary>("void *ggml_mul(void *, void *, void *)"),
    div: fn<Binary>("void *ggml_div(void *, void *, void *)"),
    cpy: fn<Binary>("void *ggml_cpy(void *, void *, void *)"),
    swigluSplit: fn<Binary>("void *ggml_swiglu_split(void *, void *, void *)"),
    gegluSplit: fn<Binary>("void *ggml_geglu_split(void *, void *, void *)"),
    swigluOai: fn<(ctx: Context, gate: Tensor, up: Tensor, alpha: number, limit: number) => Tensor>(
      "void *ggml_swiglu_oai(void *, void *, void *, float, float)",
    ),
    silu: fn<Unary>("void *ggml_silu(void *, void *)"),
    sigmoid: fn<Unary>("void *ggml_sigmoid(void *, void *)"),
    softMax: fn<Unary>("void *ggml_soft_max(void *, void *)"),
    argsortTopK: fn<(ctx: Context, a: Tensor, count: number) => Tensor>(
      "void *ggml_argsort_top_k(void *, void *, int)",
    ),
    getRows: fn<Binary>("void *ggml_get_rows(void *, void *, void *)"),
    clamp: fn<(ctx: Context, a: Tensor, least: number, most: number) => Tensor>(
      "void *ggml_clamp(void *, void *, float, float)",
    ),
    fill: fn<(ctx: Context, a: Tensor, value: number) => Tensor>("void *ggml_fill(void *, void *, float)"),
    scale: fn<(ctx: Context, a: Tensor, factor: number) => Tensor>("void *ggml_scale(void *, void *, float)"),
    scaleBias: fn<(ctx: Context, a: Tensor, factor: number, bias: number) => Tensor>(
      "void *ggml_scale_bias(void *, void *, float, float)",
    ),
    tanh: fn<Unary>("void *ggml_tanh(void *, void *)"),
    sqr: fn<Unary>("void *ggml_sqr(void *, void *)"),
    sqrt: fn<Unary>("void *ggml_sqrt(void *, void *)"),
    sumRows: fn<Unary>("void *ggml_sum_rows(void *, void *)"),
    cont: fn<Unary>("void *ggml_cont(void *, void *)"),
    layerNorm: fn<(ctx: Context, a: Tensor, eps: number) => Tensor>("void *ggml_norm(void *, void *, float)"),
    rmsNorm: fn<(ctx: Context, a: Tensor, eps: number) => Tensor>("void *ggml_rms_norm(void *, void *, float)"),
    setRows: fn<(ctx: Context, into: Tensor, rows: Tensor, indices: Tensor) => Tensor>(
      "void *ggml_set_rows(void *, void *, void *, void *)",
    ),
    reshape2d: fn<(ctx: Context, a: Tensor, ne0: number, ne1: number) => Tensor>(
      "void *ggml_reshape_2d(void *, void *, int64_t, int64_t)",
    ),
    reshape3d: fn<(ctx: Context, a: Tensor, ne0: number, ne1: number, ne2: number) => Tensor>(
      "void *ggml_reshape_3d(void *, void *, int64_t, int64_t, int64_t)",
    ),
    reshape4d: fn<(ctx: Context, a: Tensor, ne0: number, ne1: number, ne2: number, ne3: number) => Tensor>(
      "void *ggml_reshape_4d(void *, void *, int64_t, int64_t, int64_t, int64_t)",
    ),
    concat: fn<(ctx: Context, a: Tensor, b: Tensor, dimension: number) => Tensor>(
      "void *ggml_concat(void *, void *, void *, int)",
    ),
    permute: fn<(ctx: Context, a: Tensor, d0: number, d1: number, d2: number, d3: number) => Tensor>(
      "void *ggml_permute(void *, void *, int, int, int, int)",
    ),
    view1d: fn<(ctx: Context, a: Tensor, ne0: number, offset: number) => Tensor>(
      "void *ggml_view_1d(void *, void *, int64_t, size_t)",
    ),
    view2d: fn<(ctx: Context, a: Tensor, ne0: number, ne1: number, nb1: number, offset: number) => Tensor>(
      "void *ggml_view_2d(void *, void *, int64_t, int64_t, size_t, size_t)",
    ),
    view3d: fn<
      (
        ctx: Context,
        a: Tensor,
        ne0: number,
        ne1: number,
        ne2: number,
        nb1: number,
        nb2: number,
        offset: number,
      ) => Tensor
    >("void *ggml_view_3d(void *, void *, int64_t, int64_t, int64_t, size_t, size_t, size_t)"),
    view4d: fn<
      (
        ctx: Context,
        a: Tensor,
        ne0: number,
        ne1: number,
        ne2: number,
        ne3: number,
        nb1: number,
        nb2: number,
        nb3: number,
        offset: number,
      ) => Tensor
    >("void *ggml_view_4d(void *, void *, int64_t, int64_t, int64_t, int64_t, size_t, size_t, size_t, size_t)"),
    ropeExt: base.func("ggml_rope_ext", "void *", [
      ...pointers(4),
      ...["int", "int", "int"],
      ...Array<string>(6).fill("float"),
    ]) as unknown as (...call: [...RopeOperands, mode: number, ...RopeScaling]) => Tensor,
    ropeMulti: base.func("ggml_rope_multi", "void *", [
      ...pointers(4),
      ...["int", "int *", "int", "int"],
      ...Array<string>(6).fill("float"),
    ]) as unknown as (...call: [...RopeOperands, sections: Int32Array, mode: number, ...RopeScaling]) => Tensor,
    flashAttnExt: fn<
      (
        ctx: Context,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        scale: number,
        maxBias: number,
        softcap: number,
      ) => Tensor
    >("void *ggml_flash_attn_ext(void *, void *, void *, void *, void *, float, float, float)"),
    flashAttnAddSinks: fn<(a: Tensor, sinks: Tensor) => void>("void ggml_flash_attn_ext_add_sinks(void *, void *)"),
    flashAttnSetPrecision: fn<(a: Tensor, precision: number) => void>("void ggml_flash_attn_ext_set_prec(void *, int)"),

    newGraph: fn<(ctx: Context, size: number, grads: boolean) => Graph>(
      "void *ggml_new_graph_custom(void *, size_t, bool)",
    ),
    buildForwardExpand: fn<(graph: Graph, tensor: Tensor) => void>("void ggml_build_forward_expand(void *, void *)"),
    setOutput: fn<(tensor: Tensor) => void>("void ggml_set_output(void *)"),
    newGraphAllocator: fn<(type: BufferType) => Maybe>("void *ggml_gallocr_new(void *)"),
    freeGraphAllocator: fn<(allocator: GraphAllocator) => void>("void ggml_gallocr_free(void *)"),
    reserveGraph: fn<(allocator: GraphAllocator, graph: Graph) => boolean>("bool ggml_gallocr_reserve(void *, void *)"),
    allocateGraph: fn<(allocator: GraphAllocator, graph: Graph) => boolean>(
      "bool ggml_gallocr_alloc_graph(void *, void *)",
    ),
    allocatorBytes: fn<(allocator: GraphAllocator, index: number) => Long>(
      "size_t ggml_gallocr_get_buffer_size(void *, int)",
    ),

    deviceByType: registryFn<(type: number) => Maybe>("void *ggml_backend_dev_by_type(int)"),
    deviceDescription: fn<(device: Device) => string>("str ggml_backend_dev_description(void *)"),
    deviceInit: fn<(device: Device, params: null) => Maybe>("void *ggml_backend_dev_init(void *, str)"),
    deviceBufferType: fn<(device: Device) => BufferType>("void *ggml_backend_dev_buffer_type(void *)"),
    deviceSupports: fn<(device: Device, op: Tensor) => boolean>("bool ggml_backend_dev_supports_op(void *, void *)"),
    deviceRegistry: fn<(device: Device) => Pointer>("void *ggml_backend_dev_backend_reg(void *)"),
    procAddress: fn<(registry: Pointer, name: string) => Maybe>("void *ggml_backend_reg_get_proc_address(void *, str)"),
    freeBackend: fn<(backend: Backend) => void>("void ggml_backend_free(void *)"),
    compute: fn<(backend: Backend, graph: Graph) => number>("int ggml_backend_graph_compute(void *, void *)"),

    bufferTypeName: fn<(type: BufferType) => string>("str ggml_backend_buft_name(void *)"),
    bufferTypeIsHost: fn<(type: BufferType) => boolean>("bool ggml_backend_buft_is_host(void *)"),
    allocationSize: fn<(type: BufferType, tensor: Tensor) => Long>(
      "size_t ggml_backend_buft_get_alloc_size(void *, void *)",
    ),
    allocateBuffer: fn<(type: BufferType, bytes: number) => Maybe>(
      "void *ggml_backend_buft_alloc_buffer(void *, size_t)",
    ),
    bufferBase: fn<(buffer: Buffer) => Pointer>("void *ggml_backend_buffer_get_base(void *)"),
    setBufferUsage: fn<(buffer: Buffer, usage: number) => void>("void ggml_backend_buffer_set_usage(void *, int)"),
    freeBuffer: fn<(buffer: Buffer) => void>("void ggml_backend_buffer_free(void *)"),
    allocateTensors: fn<(ctx: Context, type: BufferType) => Maybe>(
      "void *ggml_backend_alloc_ctx_tensors_from_buft(void *, void *)",
    ),
    initView: fn<(view: Tensor) => number>("int ggml_backend_view_init(void *)"),
    placeTensor: fn<(buffer: Buffer, tensor: Tensor, address: Pointer) => number>(
      "int ggml_backend_tensor_alloc(void *, void *, void *)",
    ),
    setTensor: fn<(tensor: Tensor, data: Uint8Array | Pointer, offset: number, bytes: number) => void>(
      "void ggml_backend_tensor_set(void *, void *, size_t, size_t)",
    ),
    getTensor: fn<(tensor: Tensor, data: Uint8Array | Pointer, offset: number, bytes: number) => void>(
      "void ggml_backend_tensor_get(void *, void *, size_t, size_t)",
    ),
    fillTensor: fn<(tensor: Tensor, value: number, offset: number, bytes: number) => void>(
      "void ggml_backend_tensor_memset(void *, uint8_t, size_t, size_t)",
    ),

    /** Turns a row of `elements` values of a type into f32, by the function that ggml has for it. */
    rowToFloat(type: TensorTypeName): (row: Uint8Array, values: Float32Array, elements: number) => void {
      const names: Partial<Record<TensorTypeName, string>> = {
        F16: "ggml_fp16_to_fp32_row",
        BF16: "ggml_bf16_to_fp32_row",
      };
      const name = names[type] ?? `dequantize_row_${type.toLowerCase().replace(/_k$/, "_K")}`;
      return fn(`void ${name}(void *, void *, int64_t)`);
    },
  };
}

/** The device that computes. */
export function cpuDevice(ggml: Ggml): Device {
  return required(ggml.deviceByType(deviceTypeCpu), "finding a CPU device");
}

/** `pointer` itself, or `NATIVE_FAILED` naming the operation where it is NULL. */
export function required(pointer: Maybe, operation: string): Pointer {
  if (pointer === null) throw new StelliumError("NATIVE_FAILED", { operation });
  return pointer;
}

/** Sizes of a tensor type in ggml differ from ours only when the library is of another time. */
function checkAbi(ggml: Ggml): Ggml {
  for (const [name, type] of Object.entries(tensorTypes)) {
    const [block, bytes] = [Number(ggml.blockSize(type.id)), Number(ggml.typeSize(type.id))];
    if (block === type.blockElements && bytes === type.blockBytes) continue;
    throw new StelliumError("NATIVE_INCOMPATIBLE", {
      directory: nativeLibraries().directory,
      reason: `ggml ${ggml.version()} has ${bytes} bytes in ${block} values of ${name}, expected ${type.blockBytes} in ${type.blockElements}`,
    });
  }
  return ggml;
}
