import { StelliumError } from "../errors.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { Range } from "../weights/slice.ts";
import { cacheDirectory, sliceDirectory } from "../weights/sliceDirectory.ts";
import { type ListedSlice, listSlices, prunable, removeSlices } from "../weights/sliceList.ts";
import { formatBytes } from "./format.ts";
import { columns } from "./table.ts";

/** What `stellium cache` is told. */
export interface CacheValues {
  /** `prune`, or nothing for a list. */
  readonly action: string | undefined;
  readonly cacheDir: string | undefined;
  readonly olderThan: string | undefined;
  readonly all: boolean;
  readonly json: boolean;
}

const milliseconds = { s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3, w: 604_800e3 } as const;

/** Lists the slices kept for other devices' models, or removes some. Throws `BAD_USAGE`, `FILE_UNREADABLE`. */
export async function cache(values: CacheValues): Promise<void> {
  const { action, olderThan, all } = values;
  const directory = sliceDirectory(values.cacheDir ?? cacheDirectory());
  if (action === "prune") return prune(directory, values);
  if (action !== undefined) throw badUsage(`there is no action ${JSON.stringify(action)}; there is prune`);
  if (all || olderThan !== undefined) throw badUsage("--all and --older-than go with `stellium cache prune`");
  const slices = await listSlices(directory);
  print(values.json ? JSON.stringify({ directory, slices: slices.map(facts) }, null, 2) : listText(directory, slices));
}

/** Milliseconds of an age as a person writes it: `30d`, `12h`, `2w`, `90m`, `45s`. Throws `BAD_USAGE`. */
export function parseAge(text: string): number {
  const [, number, unit] = /^(\d{1,6}(?:\.\d{1,3})?) ?([smhdw])$/i.exec(text.trim()) ?? [];
  if (unit !== undefined) return Number(number) * milliseconds[unit.toLowerCase() as keyof typeof milliseconds];
  throw badUsage(`--older-than must be an age such as 30d, 12h or 2w, not ${JSON.stringify(text)}`);
}

async function prune(directory: string, { olderThan, all, json }: CacheValues): Promise<void> {
  const before = olderThan === undefined ? undefined : new Date(Date.now() - parseAge(olderThan));
  const removed = prunable(await listSlices(directory), { all, before });
  await removeSlices(removed);
  const bytes = removed.reduce((sum, slice) => sum + slice.bytes, 0);
  if (json) print(JSON.stringify({ directory, removed: removed.map(facts), bytes }, null, 2));
  else print(`removed ${counted(removed.length, "slice")}, ${formatBytes(bytes)}`);
}

function facts({ path, bytes, lastUsed, busy, content }: ListedSlice) {
  return { path, bytes, last_used: lastUsed.toISOString(), being_written: busy, ...factsOf(content) };
}

function factsOf(content: ListedSlice["content"]) {
  if ("problem" in content) return { complete: false, problem: content.problem };
  const { model, share, complete, blocks, completeBlocks } = content;
  return {
    model: model.name,
    model_hash: model.hash,
    kv_heads: share.kvHeads,
    ffn_columns: share.ffn,
    vocabulary_rows: share.vocabulary,
    complete,
    blocks,
    complete_blocks: completeBlocks,
  };
}

function listText(directory: string, slices: readonly ListedSlice[]): string {
  if (slices.length === 0) return `no slices in ${printable(directory)}`;
  const bytes = slices.reduce((sum, slice) => sum + slice.bytes, 0);
  const sum = `${counted(slices.length, "slice")}, ${formatBytes(bytes)}, in ${printable(directory)}`;
  return [...columns(slices.map(row)), sum].join("\n");
}

function row(slice: ListedSlice): string[] {
  const { content, bytes, lastUsed } = slice;
  const known = "problem" in content ? undefined : content;
  return [
    printable(known ? known.model.name : slice.path.replace(/^.*[\\/]/, ""), { limit: 60 }),
    known ? shareText(known.share) : "",
    formatBytes(bytes),
    stateText(slice),
    `used ${lastUsed.toISOString().slice(0, 10)}`,
  ];
}

/** Such as `KV heads 0-3, FFN 0-5503`. */
function shareText({ kvHeads, ffn, vocabulary }: { kvHeads: Range; ffn: Range; vocabulary: Range }): string {
  const part = (name: string, { start, count }: Range) =>
    count === 0 ? [] : [`${name} ${start}-${start + count - 1}`];
  const parts = [...part("KV heads", kvHeads), ...part("FFN", ffn), ...part("vocabulary", vocabulary)];
  return parts.join(", ") || "nothing";
}

function stateText({ busy, content }: ListedSlice): string {
  if (busy) return "being written";
  if ("problem" in content) return `unusable: ${printable(content.problem, { limit: 80 })}`;
  if (content.complete) return "complete";
  return `${content.completeBlocks} of ${content.blocks} blocks`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function badUsage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
