import type { CacheUse } from "../cluster/cacheLimit.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { ListedHead } from "../weights/headList.ts";
import type { Kept } from "../weights/kept.ts";
import type { Range } from "../weights/slice.ts";
import type { ListedSlice } from "../weights/sliceList.ts";
import { formatBytes } from "./format.ts";
import { homelessText } from "./homeless.ts";
import { columns } from "./table.ts";

/** What a cache directory holds: slices, headers and embeddings of models behind URLs, and what is known of networks. */
export interface CacheContents {
  readonly slices: readonly ListedSlice[];
  readonly heads: readonly ListedHead[];
  readonly networks: readonly Kept[];
}

/** What `--json` tells of each. */
export function cacheFacts({ slices, heads, networks }: CacheContents) {
  return { slices: slices.map(sliceFacts), heads: heads.map(headFacts), networks: networks.map(keptFacts) };
}

/** Bytes of all. */
export function cacheBytes({ slices, heads, networks }: CacheContents): number {
  return [...slices, ...heads, ...networks].reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Such as `2 slices, 1 vocabulary`. Slices are told of even where there are none. */
export function counts({ slices, heads, networks }: CacheContents): string {
  const others = [counted(heads.length, "vocabulary", "vocabularies"), counted(networks.length, "network")];
  return [counted(slices.length, "slice"), ...others.filter((text) => !text.startsWith("0 "))].join(", ");
}

/** A table, and the sum. */
export function listText(directory: string | undefined, contents: CacheContents, use: CacheUse): string {
  const rows = [...contents.slices.map(sliceRow), ...contents.heads.map(headRow)];
  const networks = contents.networks.length;
  if (directory === undefined) return `no slices ${homelessText("STELLIUM_CACHE_DIR")}`;
  if (rows.length === 0 && networks === 0) return `no slices in ${printable(directory)}`;
  const size = `${formatBytes(use.usedBytes)} of at most ${formatBytes(use.limitBytes)}`;
  const sum = `${counts(contents)}, ${size}, in ${printable(directory)}`;
  return [...columns(rows), sum].join("\n");
}

function keptFacts({ path, bytes, lastUsed, busy }: Kept) {
  return { path, bytes, last_used: lastUsed.toISOString(), being_written: busy };
}

function sliceFacts(slice: ListedSlice) {
  return { ...keptFacts(slice), ...contentFacts(slice.content) };
}

function contentFacts(content: ListedSlice["content"]) {
  if ("problem" in content) return { complete: false, problem: content.problem };
  const { model, share, complete, blocks, completeBlocks } = content;
  return {
    model: model.name,
    model_hash: model.hash,
    kv_heads: share["kvHeads"] ?? none,
    ffn_columns: share["ffn"] ?? none,
    vocabulary_rows: share["vocabulary"] ?? none,
    complete,
    blocks,
    complete_blocks: completeBlocks,
  };
}

function headFacts(head: ListedHead) {
  const { content } = head;
  const known = "problem" in content ? { complete: false, ...content } : { complete: true, model: content.name };
  return { ...keptFacts(head), ...known };
}

function sliceRow(slice: ListedSlice): string[] {
  const { content } = slice;
  const known = "problem" in content ? undefined : content;
  return row(slice, known?.model.name, known ? shareText(known.share) : "", stateText(slice));
}

function headRow(head: ListedHead): string[] {
  const { content, busy } = head;
  const known = "problem" in content ? undefined : content;
  return row(head, known?.name, "vocabulary and embedding", busy ? writing : known ? "complete" : unusable(content));
}

function row({ path, bytes, lastUsed }: Kept, name: string | undefined, what: string, state: string): string[] {
  const called = printable(name ?? path.replace(/^.*[\\/]/, ""), { limit: 60 });
  return [called, what, formatBytes(bytes), state, `used ${lastUsed.toISOString().slice(0, 10)}`];
}

/** Such as `KV heads 0-3, FFN 0-5503`. */
function shareText(share: Readonly<Record<string, Range>>): string {
  const parts = Object.entries(share).flatMap(([unit, { start, count }]) =>
    count === 0 ? [] : [`${unitTitles[unit] ?? unit} ${start}-${start + count - 1}`],
  );
  return parts.join(", ") || "nothing";
}

const unitTitles: Readonly<Record<string, string>> = { kvHeads: "KV heads", ffn: "FFN", vocabulary: "vocabulary" };
const none: Range = { start: 0, count: 0 };

const writing = "being written";

function stateText({ busy, content }: ListedSlice): string {
  if (busy) return writing;
  if ("problem" in content) return unusable(content);
  if (content.complete) return "complete";
  return `${content.completeBlocks} of ${content.blocks} blocks`;
}

function unusable(content: object): string {
  return `unusable: ${printable(String((content as { problem?: string }).problem), { limit: 80 })}`;
}

function counted(count: number, noun: string, nouns = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : nouns}`;
}
