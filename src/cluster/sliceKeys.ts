import { createHash } from "node:crypto";
import type { RankShare } from "../plan/shares.ts";
import { sliceDirectory } from "../weights/sliceDirectory.ts";
import { listSlices } from "../weights/sliceList.ts";
import type { WorkerHello } from "./control/messages.ts";

/** What a slice is of, in few characters. */
export type SliceKey = WorkerHello["cache"][number];

/** As many as a worker may tell of. */
const mostKeys = 1024;

/** Identifies a share of a model, in hex. */
export function shareKey({ kvHeads, ffn, vocabulary }: RankShare): string {
  const bounds = [kvHeads, ffn, vocabulary].map(({ start, count }) => [start, count]);
  return createHash("sha256").update(JSON.stringify(bounds)).digest("hex");
}

/**
 * The slices in a cache directory, begun ones included, the most recently used first; none where they cannot be listed. What
 * is wrong with the directory, storing a slice will tell.
 */
export async function storedKeys(cacheDir: string | undefined): Promise<SliceKey[]> {
  const slices = await listSlices(sliceDirectory(cacheDir)).catch(() => []);
  const keys = slices.flatMap(({ content }) =>
    "problem" in content ? [] : [{ model: content.model.hash, share: shareKey(content.share) }],
  );
  return keys.slice(0, mostKeys);
}

/**
 * The rank that a device is to have, so that it need not be sent anything: the first of the free ones whose slice it has.
 *
 * @param free - keys of the slices of free ranks
 */
export function rankKept(cache: readonly SliceKey[], free: ReadonlyMap<number, SliceKey>): number | undefined {
  const has = ({ model, share }: SliceKey) => cache.some((key) => key.model === model && key.share === share);
  return [...free].find(([, key]) => has(key))?.[0];
}
