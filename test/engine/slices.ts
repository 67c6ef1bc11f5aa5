import { createHash } from "node:crypto";
import { deviceSlice, storedSlice } from "#stellium/cluster/deviceSlice";
import type { WeightOrigin } from "#stellium/engine/protocol";
import type { ModelDescription } from "#stellium/model/describeModel";
import { describe } from "#stellium/model/support";
import type { WeightRooms } from "#stellium/plan/deviceMemory";
import { plainRooms, type RankDescription, rankDescription } from "#stellium/plan/rankDescription";
import { type HeadPlacement, planShares } from "#stellium/plan/shares";
import { openFile } from "#stellium/weights/byteSource";
import { readGguf } from "#stellium/weights/gguf/reader";
import { SharedReading } from "#stellium/weights/sharedReading";
import { sliceMap } from "#stellium/weights/window/sliceMap";

/** A rank of a model, and its slice on the disk. */
export interface CutRank {
  readonly description: RankDescription;
  readonly path: string;
  readonly rooms: WeightRooms;
}

/** Cuts the slices of all ranks of a model into a directory. */
export async function cutRanks(
  model: string,
  shares: readonly number[],
  cacheDir: string,
  head: HeadPlacement = "coordinator",
): Promise<CutRank[]> {
  return await cutDescribed(describe(await readGguf(model)), shares, cacheDir, head);
}

/** The same of a model that has been described. */
export async function cutDescribed(
  whole: ModelDescription,
  shares: readonly number[],
  cacheDir: string,
  head: HeadPlacement = "coordinator",
): Promise<CutRank[]> {
  const plan = planShares(whole, shares, { head });
  const sources = await Promise.all(whole.files.map((file) => openFile(file, false)));
  const reading = new SharedReading(sources, { readers: 1, shared: false });
  const ranks: CutRank[] = [];
  for (const rank of shares.keys()) {
    const description = rankDescription(whole, plan, rank);
    const slice = deviceSlice(description, { hash: hashOf(whole), name: "a model" });
    await using hold = await storedSlice(slice, { source: reading.join(slice.cut.blocks), cacheDir });
    const { path } = hold;
    ranks.push({ description, path, rooms: slice.rooms });
  }
  await Promise.all(sources.map((source) => source.close()));
  return ranks;
}

/**
 * A slice of which all blocks but the pinned ones are streamed through a ring that holds so many of them.
 *
 * @param experts - part of the experts that there is room for
 */
export async function streamed(
  { path, rooms }: CutRank,
  blocks: number,
  isPinned = (_: number) => false,
  experts = 1,
): Promise<WeightOrigin> {
  return { kind: "slice", map: await sliceMap(path), placement: placementOf(rooms, blocks, isPinned, experts) };
}

/** The same of several ranks, as what their engines start with. */
export function streamedRanks(
  ranks: readonly CutRank[],
  blocks: number,
  isPinned?: (block: number) => boolean,
  experts?: number,
) {
  return Promise.all(ranks.map(async (rank) => ({ ...rank, origin: await streamed(rank, blocks, isPinned, experts) })));
}

/** The same of the last rank; the others have their parts of the model's files in memory. */
export async function lastStreamed(ranks: readonly CutRank[], blocks: number) {
  const last = ranks.at(-1)!;
  const origin = await streamed(last, blocks);
  return [...ranks.slice(0, -1), { ...last, origin }];
}

/** The model's own files in the same way, in the plain layout. */
export function streamedPlain(description: RankDescription, blocks: number, experts = 1): WeightOrigin {
  const placement = placementOf(plainRooms(description), blocks, () => false, experts);
  return { kind: "plain", files: description.files, placement };
}

/** Two models may have parts of the same shapes. */
function hashOf({ files }: ModelDescription): string {
  return createHash("sha256").update(files.join()).digest("hex");
}

/** @param part - of the experts' bytes that there is room for */
function placementOf(
  { blocks: rooms, experts }: WeightRooms,
  blocks: number,
  isPinned: (block: number) => boolean,
  part: number,
) {
  const pinned = rooms.map((room, block) => room === 0 || block === rooms.length - 1 || isPinned(block));
  const streams = rooms.filter((_, block) => !pinned[block]);
  const windowBytes = streams
    .map((_, i) => sum([...streams, ...streams].slice(i, i + blocks)))
    .reduce((a, b) => Math.max(a, b), 0);
  return { pinned, windowBytes, poolBytes: part * sum(experts), cached: false };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
