import { cpuDevice, openGgml } from "./ggml.ts";
import koffi, { type LibraryHandle } from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";

/** Conversions of rows of f32, by ggml. q8_0 rows are of a multiple of 32 elements. */
export interface RowConversions {
  toHalf(values: Float32Array, row: Uint8Array, elements: number): void;
  fromHalf(row: Uint8Array, values: Float32Array, elements: number): void;
  toQ8(values: Float32Array, row: Uint8Array, elements: number): void;
  fromQ8(row: Uint8Array, values: Float32Array, elements: number): void;
  /** Sum of squares in f32, of the order of summands that is fastest: a bound for the largest, nothing more. */
  squares(values: Float32Array): number;
}

let opened: RowConversions | undefined;

/** Binds the SIMD functions of the CPU build that ggml chose, or the portable ones (some 10 times slower). */
export function openRows(): RowConversions {
  opened ??= cpuRows() ?? portableRows();
  return opened;
}

/** The functions of libggml-base, which are built for any CPU. */
export function portableRows(): RowConversions {
  return { ...conversions(nativeLibraries().base, "ggml_fp32_to_fp16_row", "ggml_fp16_to_fp32_row", "_ref"), squares };
}

function cpuRows(): RowConversions | undefined {
  const library = cpuLibrary();
  if (library === undefined) return undefined;
  try {
    const rows = conversions(library, "ggml_cpu_fp32_to_fp16", "ggml_cpu_fp16_to_fp32", "");
    return { ...rows, squares: nativeSquares(library) };
  } catch {
    return undefined;
  }
}

function conversions(library: LibraryHandle, toHalf: string, fromHalf: string, reference: string) {
  const fn = <T>(name: string, handle = library) =>
    handle.func(`void ${name}(void *, void *, int64_t)`) as unknown as T;
  return {
    toHalf: fn<RowConversions["toHalf"]>(toHalf),
    fromHalf: fn<RowConversions["fromHalf"]>(fromHalf),
    toQ8: fn<RowConversions["toQ8"]>(`quantize_row_q8_0${reference}`),
    fromQ8: fn<RowConversions["fromQ8"]>("dequantize_row_q8_0", nativeLibraries().base),
  };
}

function nativeSquares(library: LibraryHandle): RowConversions["squares"] {
  const dot = library.func("void ggml_vec_dot_f32(int, void *, size_t, void *, size_t, void *, size_t, int)");
  const result = new Float32Array(1);
  return (values) => {
    dot(values.length, result, 0, values, 0, values, 0, 1);
    return result[0]!;
  };
}

function squares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/** The library that ggml's CPU device comes from: dladdr(3) tells the file of one of its functions. */
function cpuLibrary(): LibraryHandle | undefined {
  if (process.platform === "win32") return undefined;
  const ggml = openGgml();
  const symbol = ggml.procAddress(ggml.deviceRegistry(cpuDevice(ggml)), "ggml_threadpool_new");
  if (symbol === null) return undefined;
  // Dl_info: dli_fname, dli_fbase, dli_sname, dli_saddr.
  const info = new BigUint64Array(4);
  const found = koffi.load(null).func("int dladdr(void *, void *)")(symbol, info) as number;
  return found === 0 ? undefined : koffi.load(fileName(info));
}

function fileName(info: BigUint64Array): string {
  return koffi.decode(info, "str") as string;
}
