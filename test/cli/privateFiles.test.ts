import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { serveModel } from "../../bench/model/rangeServer.mjs";
import { skipOnWindows } from "../skip.ts";
import { stellium } from "./stellium.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
let mask: number;
beforeAll(() => {
  mask = process.umask(0);
});
afterAll(() => {
  process.umask(mask);
  rmSync(folder, { recursive: true });
});

/** The mode of each file and folder below one, links left out. */
function modes(directory: string): [path: string, mode: string][] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter(
    (each) => !each.isSymbolicLink(),
  );
  const paths = entries.map(({ parentPath, name }) => join(parentPath, name));
  return paths.map((path) => [relative(directory, path), (lstatSync(path).mode & 0o777).toString(8)]);
}

/** A folder that others can look into, as earlier versions made them. */
function open(path: string): string {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o755);
  return path;
}

describe("what Stellium makes is for its user alone, whatever the umask", skipOnWindows("modes of files"), () => {
  let server: Awaited<ReturnType<typeof serveModel>>;
  beforeAll(async () => {
    server = await serveModel({ shape: "tiny-llama", type: "Q8_0", layers: 2 });
  });
  afterAll(() => server.close());

  /** Has slices, headers, links, models and a token be made. */
  async function use(env: Record<string, string>): Promise<void> {
    const writing = ["-p", "a", "-n", "2", "-c", "64", "--devices", "2"];
    const outcomes = [
      await stellium(["generate", "-m", server.url, ...writing], { env }),
      await stellium(["pull", server.url], { env }),
      await stellium(["token"], { env }),
    ];
    for (const { code, stderr } of outcomes) expect([code, stderr]).toEqual([0, expect.any(String)]);
  }

  it("in the usual cache directory, and of what earlier versions made there", async () => {
    const home = open(join(folder, "home"));
    const cache = open(join(home, ".cache", "stellium"));
    open(join(home, ".cache"));
    writeFileSync(join(open(join(cache, "slices")), "old.slice"), "");
    writeFileSync(join(open(join(cache, "urls", "0123")), "old.gguf"), "");
    open(join(cache, "urls"));
    await use({ HOME: home, XDG_CACHE_HOME: "", USERPROFILE: home, TMPDIR: folder });
    const found = new Map(modes(home));
    expect(found.get(".cache")).toBe("755");
    found.delete(".cache");
    const names = [...found.keys()].map((path) => path.split("/")[2]);
    expect(names).toEqual(expect.arrayContaining(["coordinator", "heads", "links", "processes", "slices", "urls"]));
    for (const [path, mode] of found) {
      const directory = lstatSync(join(home, path)).isDirectory();
      expect([path, mode]).toEqual([path, directory ? "700" : "600"]);
    }
  });

  it("in a directory that the user names, whose own mode is the user's", async () => {
    const cache = open(join(folder, "named"));
    open(join(cache, "another"));
    await use({ STELLIUM_CACHE_DIR: cache });
    expect(lstatSync(cache).mode & 0o777).toBe(0o755);
    const wide = modes(cache).filter(([, mode]) => !["700", "600"].includes(mode));
    expect(wide).toEqual([["another", "755"]]);
  });
});
