import { StelliumError } from "../errors.ts";
import { type Backend, type BufferType, type Device, type Ggml, openGgml, type Pointer, required } from "./ggml.ts";
import koffi from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";

/** How a compute backend is set up. */
export interface BackendOptions {
  /** Threads that compute, this one included. */
  threads: number;
  /** How long idle threads spin before they sleep, 0 (not at all) to 100. */
  poll: number;
  /** Address of a two-byte string: "" lets graphs run, anything else stops them after the operation at hand. */
  abortFlag: Pointer;
}

/** A device opened for computing, with its threads. */
export interface ComputeBackend extends Disposable {
  readonly backend: Backend;
  readonly device: Device;
}

/** Layout of `ggml_threadpool_params`: cpumask[512], n_threads, prio, poll, strict_cpu, paused. */
const threadpoolParams = { bytes: 528, threads: 512, poll: 520 };

/**
 * Opens a device with one persistent pool of threads, so that starting a graph costs microseconds.
 * Devices without such settings (GPUs) are opened as they are.
 */
export function openBackend(device: Device, options: BackendOptions): ComputeBackend {
  const ggml = openGgml();
  const backend = required(ggml.deviceInit(device, null), "opening the compute device");
  const settings = deviceSettings(ggml, device);
  settings("ggml_backend_set_n_threads", "void", ["void *", "int"])?.(backend, options.threads);
  const pool = attachThreadpool(settings, backend, options);
  attachAbortFlag(settings, backend, options.abortFlag);
  return {
    backend,
    device,
    [Symbol.dispose]() {
      ggml.freeBackend(backend);
      if (pool !== null) settings("ggml_threadpool_free", "void", ["void *"])?.(pool);
    },
  };
}

/** Layouts of weights that the device computes faster from than the plain one, best first, in its own order. */
export function extraBufferTypes(device: Device): BufferType[] {
  const list = deviceSettings(openGgml(), device)("ggml_backend_dev_get_extra_bufts", "void *", ["void *"])?.(device);
  const types: BufferType[] = [];
  for (let i = 0; list; i++) {
    const type = koffi.decode(list, i * koffi.sizeof("void *"), "void *") as BufferType | null;
    if (type === null) break;
    types.push(type);
  }
  return types;
}

/** Names of the instruction sets the device's build uses, such as `AVX512_VNNI`: they decide what its layouts are. */
export function deviceFeatures(device: Device): string[] {
  const ggml = openGgml();
  const registry = ggml.deviceRegistry(device);
  const list = deviceSettings(ggml, device)("ggml_backend_get_features", "void *", ["void *"])?.(registry);
  const names: string[] = [];
  const word = koffi.sizeof("void *");
  for (let i = 0; list; i += 2) {
    const name = koffi.decode(list, i * word, "str") as string | null;
    if (name === null) break;
    if (koffi.decode(list, (i + 1) * word, "str") === "1") names.push(name);
  }
  return names;
}

type NativeFunction = (...args: unknown[]) => unknown;
type Settings = (name: string, result: string, parameters: string[]) => NativeFunction | undefined;

/** Functions that only some devices have are asked for by name. */
function deviceSettings(ggml: Ggml, device: Device): Settings {
  const registry = ggml.deviceRegistry(device);
  return (name, result, parameters) => {
    const address = ggml.procAddress(registry, name);
    if (address === null) return undefined;
    return koffi.decode(address, koffi.proto(null, result, parameters)) as NativeFunction;
  };
}

function attachThreadpool(settings: Settings, backend: Backend, options: BackendOptions): Pointer | null {
  const create = settings("ggml_threadpool_new", "void *", ["void *"]);
  if (create === undefined) return null;
  const pool = required(create(threadpoolSettings(options)) as Pointer | null, "starting the compute threads");
  settings("ggml_backend_cpu_set_threadpool", "void", ["void *", "void *"])?.(backend, pool);
  return pool;
}

function threadpoolSettings({ threads, poll }: BackendOptions): Uint8Array {
  const { base, directory } = nativeLibraries();
  const bytes = new Uint8Array(threadpoolParams.bytes);
  const view = new DataView(bytes.buffer);
  base.func("void ggml_threadpool_params_init(void *, int)")(bytes, threads);
  if (view.getInt32(threadpoolParams.threads, true) !== threads) {
    throw new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason: "ggml_threadpool_params has another layout" });
  }
  view.setUint32(threadpoolParams.poll, poll, true);
  return bytes;
}

/**
 * ggml asks a callback between operations whether to stop. Calling back into JavaScript some hundred times a token
 * would cost more than it is worth, so the callback is libc's `strlen`: zero, "go on", for an empty string.
 */
function attachAbortFlag(settings: Settings, backend: Backend, flag: Pointer): void {
  const strlen = koffi.load(process.platform === "win32" ? "msvcrt.dll" : null).symbol("strlen");
  settings("ggml_backend_set_abort_callback", "void", ["void *", "void *", "void *"])?.(backend, strlen, flag);
}
