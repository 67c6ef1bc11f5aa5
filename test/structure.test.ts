import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../", import.meta.url));
const source = join(root, "src");

/** An import of a file by another, both as paths from `src/`. */
interface Import {
  readonly from: string;
  readonly to: string;
  /** Whether only types are imported, which leaves nothing at run time. */
  readonly types: boolean;
}

/** The folders of the table in the architecture page, from the top down. */
function folders(): string[] {
  const page = readFileSync(join(root, "docs/architecture.md"), "utf8");
  return [...page.matchAll(/^\|[^|]*`src\/(\w+)\/`/gm)].map(([, name]) => name!);
}

function imports(): Import[] {
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file));
  return files.flatMap((from) => {
    const text = readFileSync(join(source, from), "utf8");
    const statements = text.matchAll(/^(?:import|export)\s+(type\s+)?([^;"]*?)\s*from\s+"(\.[^"]+)"/gm);
    return [...statements].map(([, type, names, path]) => {
      const types =
        type !== undefined || (/^\{.*\}$/s.test(names!) && namesOf(names!).every((name) => /^type /.test(name)));
      return { from, to: normalize(join(dirname(from), path!)), types };
    });
  });
}

function namesOf(braces: string): string[] {
  const names = braces.slice(1, -1).split(",");
  return names.map((name) => name.trim()).filter(Boolean);
}

/** Paths of files that import each other in a circle. */
function circles(all: readonly Import[]): string[] {
  const targets = new Map<string, string[]>();
  for (const { from, to } of all) targets.set(from, [...(targets.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) found.push([...path.slice(path.indexOf(file)), file].join(" > "));
    if (done.has(file) || path.includes(file)) return;
    for (const next of targets.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of targets.keys()) visit(file, []);
  return found;
}

/** Names that files export, each with the files that define it. */
function exported(): Map<string, string[]> {
  const names = new Map<string, string[]>();
  for (const file of readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) =>
    /\.tsx?$/.test(name),
  )) {
    const text = readFileSync(join(source, file), "utf8");
    const found = text.matchAll(/^export (?:async )?(?:function\*?|class|interface|type|const) (\w+)/gm);
    for (const [, name] of found) names.set(name!, [...(names.get(name!) ?? []), file]);
  }
  return names;
}

it("an exported name is defined once, but for verbs of the command line that the library has, too", () => {
  const twice = [...exported()].filter(([, files]) => new Set(files).size > 1);
  const verbs = twice.filter(([name]) => ["generate", "join", "loadModel", "plan", "pull", "serve"].includes(name));
  for (const [, files] of verbs) {
    expect(files.map((file) => file.split("/")[0]).sort()).toEqual(["cli", "library"]);
  }
  expect(twice.filter((entry) => !verbs.includes(entry))).toEqual([]);
});

describe("the folders", () => {
  const all = imports();

  it("are those of the architecture page", () => {
    const names = readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders().sort()).toEqual(names.map(({ name }) => name).sort());
    expect(all.length).toBeGreaterThan(500);
  });

  it("import from those below them alone, types included; traces may be recorded from anywhere", () => {
    const order = folders();
    const rank = (file: string) => order.indexOf(file.split("/")[0]!);
    const upward = all.filter(({ from, to }) => {
      const placed = rank(from) >= 0 && rank(to) >= 0;
      return placed && rank(to) < rank(from) && !to.startsWith("trace/");
    });
    expect(upward.map(({ from, to }) => `${from} > ${to}`)).toEqual([]);
  });

  it("have no files that import each other's values in a circle", () => {
    expect(circles(all.filter(({ types }) => !types))).toEqual([]);
  });
});
