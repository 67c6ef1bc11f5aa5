import type { SharedReading } from "../weights/sharedReading.ts";
import { cutPlan } from "../weights/sliceLayout.ts";
import { completeSlice, type SliceWish, type StoredSlice } from "./completeSlice.ts";

/**
 * This device's own slice of a model that it reads and does not keep: cut once, like a worker's, and resumed after a
 * cut. Throws what `completeSlice` and reading the model do.
 *
 * @param reading - shared with the slices of workers that are cut at the same time
 */
export async function obtainOwnSlice(reading: SharedReading, wish: SliceWish): Promise<StoredSlice> {
  using reader = reading.join(cutPlan(wish.description, wish.model).blocks);
  return await completeSlice(wish, { request: async () => {}, block: (index) => reader.read(index) });
}
