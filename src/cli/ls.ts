import { hubDirectory } from "../models/hub.ts";
import { type Leftover, listLeftovers, listLocalModels, type NamedModel } from "../models/localModels.ts";
import { listUrlModels, type UrlModel, urlDirectory } from "../models/urlModels.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { Values } from "./arguments/option.ts";
import type { listOptions } from "./commandOptions.ts";
import { formatBytes } from "./format.ts";
import { homelessText } from "./homeless.ts";
import { columns } from "./table.ts";

/** Lists, on stdout, the models that are on this device, and what is left of some that were not fetched to the end. */
export async function list({ json }: Values<typeof listOptions>): Promise<void> {
  const directory = unlessHomeless(() => hubDirectory(process.env));
  const urlsAt = unlessHomeless(() => urlDirectory());
  const models = directory === undefined ? [] : await listLocalModels(directory);
  const urls = urlsAt === undefined ? [] : await listUrlModels(urlsAt);
  const leftovers = directory === undefined ? [] : await listLeftovers(directory);
  const report = {
    directory: directory ?? null,
    models: [...models.map(hubFacts), ...urls.map(urlFacts)],
    incomplete: leftovers,
  };
  process.stdout.write(`${json ? JSON.stringify(report, null, 2) : text(directory, models, urls, leftovers)}\n`);
}

function hubFacts({ name, repo, commit, label, files, bytes, modified }: NamedModel) {
  return { name, repo, commit, quantization: label ?? null, files, bytes, modified: modified.toISOString() };
}

function urlFacts({ url, files, bytes, modified }: UrlModel) {
  return { name: url, repo: null, commit: null, quantization: null, files, bytes, modified: modified.toISOString() };
}

function text(
  directory: string | undefined,
  models: readonly NamedModel[],
  urls: readonly UrlModel[],
  leftovers: readonly Leftover[],
): string {
  const rows = [...models, ...urls.map((model) => ({ ...model, name: model.url }))].map(({ name, bytes, modified }) => [
    printable(name, { limit: 100 }),
    formatBytes(bytes),
    `of ${modified.toISOString().slice(0, 10)}`,
  ]);
  const parts = leftovers.map(({ repo, bytes }) => [repo, formatBytes(bytes), "incomplete"]);
  const place = directory === undefined ? homelessText("HF_HOME") : `in ${printable(directory)}`;
  if (rows.length + parts.length === 0) return `no models ${place}`;
  const bytes = [...models, ...urls, ...leftovers].reduce((sum, model) => sum + model.bytes, 0);
  const count = models.length + urls.length;
  const sum = `${count} model${count === 1 ? "" : "s"}, ${formatBytes(bytes)}; those of Hugging Face ${place}`;
  return [...columns([...rows, ...parts]), sum].join("\n");
}
