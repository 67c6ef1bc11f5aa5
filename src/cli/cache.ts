import { CacheLimit, type CacheUse } from "../cluster/cacheLimit.ts";
import { listNetworks } from "../cluster/keptNetworks.ts";
import { tuningDirectory } from "../cluster/linkPlan.ts";
import { badUsage } from "../errors.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import { listHeads } from "../weights/headList.ts";
import { prunable, removeKept } from "../weights/kept.ts";
import { headDirectory } from "../weights/localHead.ts";
import { cacheDirectory, sliceDirectory } from "../weights/sliceDirectory.ts";
import { listSlices } from "../weights/sliceList.ts";
import { type CacheContents, cacheBytes, cacheFacts, counts, listText } from "./cacheReport.ts";
import { formatBytes } from "./format.ts";

/** What `stellium cache` is told. */
export interface CacheValues {
  /** `prune`, or nothing for a list. */
  readonly action: string | undefined;
  readonly cacheDir: string | undefined;
  readonly cacheSize: number | undefined;
  readonly olderThan: string | undefined;
  readonly all: boolean;
  readonly json: boolean;
}

const milliseconds = { s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3, w: 604_800e3 } as const;

/** Lists what is kept of models and networks, or removes some. Throws `BAD_USAGE`, `FILE_UNREADABLE`, `CACHE_UNWRITABLE`. */
export async function cache(values: CacheValues): Promise<void> {
  const { action, olderThan, all } = values;
  const directory = values.cacheDir ?? unlessHomeless(() => cacheDirectory());
  if (action === "prune") return prune(directory, values);
  if (action !== undefined) throw badUsage(`there is no action ${JSON.stringify(action)}; there is prune`);
  if (all || olderThan !== undefined) throw badUsage("--all and --older-than go with `stellium cache prune`");
  const contents = await contentsOf(directory);
  const use = directory === undefined ? noUse : await new CacheLimit(directory, values.cacheSize).use();
  const figures = { bytes: use.usedBytes, limit_bytes: use.limitBytes };
  const facts = { directory: directory ?? null, ...figures, ...cacheFacts(contents) };
  print(values.json ? json(facts) : listText(directory, contents, use));
}

/** Milliseconds of an age as a person writes it: `30d`, `12h`, `2w`, `90m`, `45s`. Throws `BAD_USAGE`. */
export function parseAge(text: string): number {
  const [, number, unit] = /^(\d{1,6}(?:\.\d{1,3})?) ?([smhdw])$/i.exec(text.trim()) ?? [];
  if (unit !== undefined) return Number(number) * milliseconds[unit.toLowerCase() as keyof typeof milliseconds];
  throw badUsage(`--older-than must be an age such as 30d, 12h or 2w, not ${JSON.stringify(text)}`);
}

async function contentsOf(directory: string | undefined): Promise<CacheContents> {
  if (directory === undefined) return { slices: [], heads: [], networks: [] };
  return {
    slices: await listSlices(sliceDirectory(directory)),
    heads: await listHeads(headDirectory(directory)),
    networks: await listNetworks(tuningDirectory(directory)),
  };
}

async function prune(directory: string | undefined, { olderThan, all, json: asJson }: CacheValues): Promise<void> {
  const before = olderThan === undefined ? undefined : new Date(Date.now() - parseAge(olderThan));
  const { slices, heads, networks } = await contentsOf(directory);
  const which = { all, before };
  const removed = {
    slices: prunable(slices, which),
    heads: prunable(heads, which),
    networks: prunable(networks, which),
  };
  await removeKept(Object.values(removed).flat());
  const bytes = cacheBytes(removed);
  print(
    asJson
      ? json({ directory: directory ?? null, removed: cacheFacts(removed), bytes })
      : `removed ${counts(removed)}, ${formatBytes(bytes)}`,
  );
}

const noUse: CacheUse = { limitBytes: 0, usedBytes: 0 };

function json(value: object): string {
  return JSON.stringify(value, null, 2);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
