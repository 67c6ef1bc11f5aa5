import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
let folder: string;
let tarball: string;

function npm(cwd: string, ...args: string[]): string {
  return execFileSync("npm", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

describe("the packed package", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    npm(root, "pack", "--ignore-scripts", "--pack-destination", folder);
    tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz"))!);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("is small without the bundled model", () => {
    const model = statSync(join(root, "models/stellium-shakespeare-5m-q8_0.gguf")).size;
    expect(statSync(tarball).size).toBeLessThan(model + 500_000);
  });

  it("installs without install scripts and has a bin that runs the demo", () => {
    writeFileSync(join(folder, "package.json"), '{ "private": true }');
    npm(folder, "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", tarball);
    const bin = join(folder, "node_modules/.bin/stellium");
    expect(execFileSync(bin, ["--version"], { encoding: "utf8" })).toMatch(/^\d+\.\d+\.\d+\n$/);
    const env = { ...process.env, STELLIUM_CACHE_DIR: join(folder, "cache") };
    const demo = ["demo", "--devices", "2", "--threads", "1", "--seed", "1"];
    const scene = execFileSync(bin, demo, { env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    expect(scene.length).toBeGreaterThan(100);
  }, 180_000);
});
