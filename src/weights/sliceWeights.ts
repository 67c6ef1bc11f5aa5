import { StelliumError } from "../errors.ts";
import type { Buffer, Pointer } from "../native/ggml.ts";
import type { Layout } from "./layout.ts";
import type { LoadTask } from "./loader.ts";
// Engine threads need no validation, which takes longer to load than all the rest of them.
import { encodeHeader } from "./sliceFormat.ts";
import type { SliceHeader, SliceTensor } from "./sliceHeader.ts";

/** Where a tensor is to be in memory, and how it is to lie there. */
export interface WeightPlace {
  readonly layout: Pick<Layout, "name">;
  readonly buffer: Buffer;
  readonly address: Pointer;
  /** Room there, as `allocationBytes` counts it. */
  readonly bytes: number;
}

/** Bytes that one load task reads: enough for a disk to be at its best. */
const taskBytes = 8 * 2 ** 20;

/**
 * How weights get from a complete slice into their places: by reading alone, since they lie in it in the layouts they
 * are to have. The function that is returned throws `SLICE_INVALID` for a tensor that the slice has not, or not so.
 */
export function sliceLoadTasks(path: string, header: SliceHeader): (name: string, place: WeightPlace) => LoadTask[] {
  const { dataOffset } = encodeHeader(header);
  const stored = new Map<string, { tensor: SliceTensor; offset: number }>();
  for (const { offset, tensors } of header.blocks) {
    for (const tensor of tensors) stored.set(tensor.name, { tensor, offset: dataOffset + offset + tensor.offset });
  }
  return (name, place) => {
    const found = stored.get(name);
    if (found === undefined) throw invalid(path, `it has no tensor ${name}`);
    if (found.tensor.layout !== place.layout.name || found.tensor.bytes !== place.bytes) {
      throw invalid(path, misfit(found.tensor, place));
    }
    return copyTasks(path, found.offset, place);
  };
}

function copyTasks(path: string, offset: number, { buffer, address, bytes }: WeightPlace): LoadTask[] {
  const tasks: LoadTask[] = [];
  for (let done = 0; done < bytes; done += taskBytes) {
    const length = Math.min(taskBytes, bytes - done);
    tasks.push({ path, offset: offset + done, bytes: length, address: address + BigInt(done), buffer });
  }
  return tasks;
}

function misfit({ name, layout, bytes }: SliceTensor, place: WeightPlace): string {
  return `its tensor ${name} is ${layout} of ${bytes} bytes where ${place.layout.name} of ${place.bytes} was expected`;
}

function invalid(path: string, reason: string): StelliumError {
  return new StelliumError("SLICE_INVALID", { path, reason });
}
