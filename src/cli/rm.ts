import { badUsage, StelliumError } from "../errors.ts";
import { endpointOf, hubDirectory } from "../models/hub.ts";
import { listLocalModels, localRepositories, type NamedModel } from "../models/localModels.ts";
import { type HubName, parseModelName } from "../models/modelName.ts";
import { chooseModel } from "../models/quantization.ts";
import { removeLeftovers, removeModel } from "../models/removal.ts";
import { findUrlModel, removeUrlModel, urlDirectory } from "../models/urlModels.ts";
import { writingTo } from "../system/cacheFolder.ts";
import type { Values } from "./arguments/option.ts";
import type { removeOptions } from "./commandOptions.ts";
import { formatBytes } from "./format.ts";
import { requireModel } from "./requireModel.ts";

/** What was removed. */
interface Removed {
  readonly removed: readonly string[];
  readonly bytes: number;
}

/** Removes a model from this device. Throws `BAD_USAGE`, `MODEL_NOT_HERE`, `HOME_UNKNOWN`, `CACHE_UNWRITABLE`. */
export async function remove(values: Values<typeof removeOptions>): Promise<void> {
  const { removed, bytes } = await removeNamed(requireModel(values.model), values.all);
  const text = removed.map((name) => `removed ${name}`).join("\n");
  const report = values.json ? JSON.stringify({ removed, bytes }, null, 2) : `${text}, ${formatBytes(bytes)}`;
  process.stdout.write(`${report}\n`);
}

async function removeNamed(text: string, all: boolean): Promise<Removed> {
  const name = parseModelName(text, endpointOf(process.env));
  if (name.kind === "file") throw badUsage(`${text} is a file, and not of those that \`stellium ls\` lists`);
  if (name.hub !== undefined) return await removeFromHub(name.hub, all);
  const model = await findUrlModel(urlDirectory(), text);
  if (model === undefined) throw new StelliumError("MODEL_NOT_HERE", { model: text });
  const removing = () => removeUrlModel(urlDirectory(), model);
  return { removed: [text], bytes: await writingTo(urlDirectory(), "STELLIUM_CACHE_DIR", removing) };
}

async function removeFromHub(name: HubName, all: boolean): Promise<Removed> {
  const directory = hubDirectory(process.env);
  const repo = (await localRepositories(directory)).find((each) => each.toLowerCase() === name.repo.toLowerCase());
  if (repo === undefined) throw new StelliumError("MODEL_NOT_HERE", { model: name.repo });
  const models = (await listLocalModels(directory)).filter((model) => model.repo === repo);
  const chosen = chosenOf(models, name, all);
  const removing = () => removeAll(directory, repo, chosen, { leftovers: name.choice === undefined });
  const bytes = await writingTo(directory, "HF_HUB_CACHE", removing);
  return { removed: chosen.length > 0 ? chosen.map((model) => model.name) : [repo], bytes };
}

/** Returns how many bytes that frees. */
async function removeAll(
  directory: string,
  repo: string,
  models: readonly NamedModel[],
  { leftovers }: { readonly leftovers: boolean },
): Promise<number> {
  let bytes = 0;
  for (const model of models) bytes += await removeModel(directory, model);
  return bytes + (leftovers ? await removeLeftovers(directory, repo) : 0);
}

/** The models to remove; none where only what is incomplete is left. */
function chosenOf(models: readonly NamedModel[], { repo, choice }: HubName, all: boolean): NamedModel[] {
  if (choice === undefined && (all || models.length < 2)) return [...models];
  if (choice === undefined) {
    const names = models.map(({ name }) => name).join(", ");
    throw badUsage(`there are ${models.length} models of ${repo}: ${names}; name one, or say --all`);
  }
  const chosen = chooseModel(models, choice);
  if (chosen === undefined) throw new StelliumError("MODEL_NOT_HERE", { model: `${repo}:${choice}` });
  return models.filter(({ path }) => path === chosen.path);
}
