import type { HubModel } from "../models/hubModels.ts";
import type { PullProgress } from "../models/pull.ts";
import { formatBytes } from "./format.ts";
import { Progress } from "./progress.ts";

/** Tells on stderr which model is fetched, and how far that is. */
export function pullReport() {
  const progress = new Progress("fetching");
  return {
    onFound: (model: HubModel) => process.stderr.write(`${foundText(model)}\n`),
    onProgress: ({ bytes, total, fetched }: PullProgress) => progress.update(bytes, total, fetched),
    [Symbol.dispose]: () => progress[Symbol.dispose](),
  };
}

function foundText({ name, files }: HubModel): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const parts = files.length === 1 ? files[0]!.path : `${files.length} files`;
  return `${name}: ${formatBytes(bytes)} in ${parts}`;
}
