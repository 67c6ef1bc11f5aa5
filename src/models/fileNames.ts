import { join } from "node:path";

const reserved = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const forbidden = /[\u0000-\u001f\u007f<>:"|?*\\]/;
const deepest = 8;

/** Whether a path from outside stays below the directory that it is joined to, on every system. */
export function isSafePath(path: string): boolean {
  const parts = path.split("/");
  return path.length <= 1000 && parts.length <= deepest && parts.every(isSafeName);
}

/** The path of a file that belongs to a repository, below `directory`. `path` has to be safe. */
export function below(directory: string, path: string): string {
  if (!isSafePath(path)) throw new RangeError(`${JSON.stringify(path)} is no safe path`);
  return join(directory, ...path.split("/"));
}

function isSafeName(name: string): boolean {
  const odd = name === "" || name === "." || name === ".." || /[. ]$/.test(name);
  return !odd && name.length <= 255 && !forbidden.test(name) && !reserved.test(name);
}
