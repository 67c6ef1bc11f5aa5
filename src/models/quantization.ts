import { partPaths } from "../weights/gguf/split.ts";

/** A model among the files of a repository. */
export interface ListedModel {
  /** Its first or only file. */
  readonly path: string;
  /** Paths of all its parts, in order. */
  readonly parts: readonly string[];
  /** Its quantization as its name says it, in capitals, such as `Q4_K_M` or `UD-Q4_K_XL`. */
  readonly label: string | undefined;
}

const labelPattern =
  /(?:^|[-._/ ])((?:UD-|i1-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|(?:MX|NV)FP\d(?:_[A-Z0-9]+)*|BF16|F16|FP16|F32|FP32))(?=[-._/ ]|$)/gi;
/** What is beside models, such as projectors of pictures and heads that draft; as llama.cpp knows them. */
const accessories = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];
/** Tried where no quantization is named, before the first model of all; as llama.cpp does. */
const preferred = ["Q4_K_M", "Q8_0"];

/** The models among files, by their names, in the order of the files. A part that is not listed is among `parts`. */
export function modelsAmong(paths: readonly string[]): ListedModel[] {
  return paths.flatMap((path) => {
    const parts = partPaths(path);
    return isModel(path) && parts[0] === path ? [{ path, parts, label: labelOf(path) }] : [];
  });
}

/**
 * The model that is meant: by the path or name of its file, by its quantization, or as llama.cpp looks for it, by
 * anything in its path that a dot or dash follows; in this order, all without regard to case. Undefined where there is
 * none. Without a choice it is what llama.cpp takes.
 */
export function chooseModel(models: readonly ListedModel[], choice: string | undefined): ListedModel | undefined {
  if (choice !== undefined) return chosen(models, choice);
  const found = preferred.map((label) => chosen(models, label)).find((model) => model !== undefined);
  return found ?? models[0];
}

/** The quantization in a file's name, the last one where there are several; else in those of its directories. */
export function labelOf(path: string): string | undefined {
  for (const part of path.split("/").reverse()) {
    const label = [...part.matchAll(labelPattern)].at(-1)?.[1];
    if (label !== undefined) return label.toUpperCase().replace(/^I1-/, "i1-");
  }
  return undefined;
}

function chosen(models: readonly ListedModel[], choice: string): ListedModel | undefined {
  const wanted = choice.toLowerCase();
  const file = wanted.replace(/\.gguf$/, "");
  const isFile = ({ parts }: ListedModel) =>
    parts.some((part) => [part, baseName(part)].some((name) => name.toLowerCase().replace(/\.gguf$/, "") === file));
  const isLabel = ({ label }: ListedModel) => label?.toLowerCase() === wanted;
  const contains = ({ path }: ListedModel) =>
    [".", "-"].some((end) => path.toLowerCase().includes(`${wanted}${end}`)) && !wanted.includes("/");
  return models.find(isFile) ?? models.find(isLabel) ?? models.find(contains);
}

function isModel(path: string): boolean {
  const name = baseName(path);
  return /\.gguf$/i.test(name) && !accessories.some((word) => name.includes(word));
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
