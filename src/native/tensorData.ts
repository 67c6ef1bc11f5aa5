import { StelliumError } from "../errors.ts";
import { type Ggml, type Pointer, required, type Tensor } from "./ggml.ts";
import koffi from "./koffi.ts";
import { nativeLibraries } from "./libraries.ts";
import { viewNative } from "./memory.ts";

/** Says where the data of a tensor lies. */
export type Repoint = (address: Pointer) => void;

/** `struct ggml_object`, which precedes every tensor in its context. */
const objectBytes = 32;

/**
 * How tensors are told that their data lies elsewhere. ggml looks at a tensor's `data` when it computes, and at nothing
 * that was derived from it before, so graphs that were built with the tensor stay valid. There is no function for it:
 * the field is found by its value, which also shows that it is there.
 *
 * @param placed - a tensor with data
 * @throws `NATIVE_INCOMPATIBLE` where the field cannot be told
 */
export function repointing(ggml: Ggml, placed: Tensor): (tensor: Tensor) => Repoint {
  const offset = dataOffset(ggml, placed);
  return (tensor) => pointerAt(tensor + BigInt(offset)).set;
}

function dataOffset(ggml: Ggml, placed: Tensor): number {
  const data = required(ggml.getData(placed), "reading a tensor's address");
  const word = koffi.sizeof("void *");
  const bytes = Number(ggml.tensorOverhead()) - objectBytes;
  for (let offset = 0; offset + word <= bytes; offset += word) {
    const field = pointerAt(placed + BigInt(offset));
    if (field.get() === data && isData(ggml, placed, field, data)) return offset;
  }
  const { directory } = nativeLibraries();
  throw new StelliumError("NATIVE_INCOMPATIBLE", { directory, reason: "the address of a tensor's data is not in it" });
}

/** Whether what `ggml_get_data` says follows the field. */
function isData(ggml: Ggml, placed: Tensor, field: PointerField, data: Pointer): boolean {
  field.set(data + 64n);
  const follows = ggml.getData(placed) === data + 64n;
  field.set(data);
  return follows;
}

interface PointerField {
  get(): Pointer;
  set(value: Pointer): void;
}

function pointerAt(address: Pointer): PointerField {
  const word = koffi.sizeof("void *");
  const { buffer } = viewNative(address, word);
  const [wide, narrow] = [word === 8 ? new BigUint64Array(buffer) : undefined, new Uint32Array(buffer)];
  return {
    get: () => wide?.[0] ?? BigInt(narrow[0]!),
    set(value) {
      if (wide === undefined) narrow[0] = Number(value);
      else wide[0] = value;
    },
  };
}
