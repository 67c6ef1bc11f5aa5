import { pullModel } from "../models/resolveModel.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { Values } from "./arguments/option.ts";
import type { pullOptions } from "./commandOptions.ts";
import { pullReport } from "./pullReport.ts";
import { requireModel } from "./requireModel.ts";

/** Fetches a model to this device, and tells on stdout where its files are. Throws what `pullModel` throws. */
export async function pull({ model, json }: Values<typeof pullOptions>, signal: AbortSignal): Promise<void> {
  const name = requireModel(model);
  const files = await fetched(name, signal);
  const text = json ? JSON.stringify({ model: name, files }, null, 2) : files.map((file) => printable(file)).join("\n");
  process.stdout.write(`${text}\n`);
}

async function fetched(name: string, signal: AbortSignal): Promise<readonly string[]> {
  using report = pullReport();
  return await pullModel(name, { signal, ...report });
}
