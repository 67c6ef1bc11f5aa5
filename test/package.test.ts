import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
let folder: string;
let tarball: string;

function run(cwd: string, program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

const inPackage = (name: string) => join(root, "node_modules", name);

describe("the packed package", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    run(root, "npm", "pack", "--ignore-scripts", "--pack-destination", folder);
    tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz"))!);
    writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
    run(folder, "npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", tarball);
  }, 180_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it("is small without the bundled model", () => {
    const model = statSync(join(root, "models/stellium-shakespeare-5m-q8_0.gguf")).size;
    expect(statSync(tarball).size).toBeLessThan(model + 700_000);
  });

  it("is what linters of packages want", () => {
    run(root, process.execPath, inPackage("publint/src/cli.js"), "--strict", tarball);
    run(root, process.execPath, inPackage("@arethetypeswrong/cli/dist/index.js"), "--profile", "esm-only", tarball);
  }, 120_000);

  it("installs without install scripts and has a bin that runs the demo", () => {
    const bin = join(folder, "node_modules/.bin/stellium");
    expect(run(folder, bin, "--version")).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(run(folder, bin, "demo", "--devices", "2", "--seed", "1", "-t", "1").length).toBeGreaterThan(100);
  }, 120_000);

  it("is a library with types, which its examples use", () => {
    for (const name of ["story.mjs", "cluster.mjs"]) copyFileSync(join(root, "examples", name), join(folder, name));
    const model = join(folder, "node_modules/stellium/models/stellium-shakespeare-5m-q8_0.gguf");
    expect(run(folder, process.execPath, "story.mjs", model).length).toBeGreaterThan(100);
    expect(run(folder, process.execPath, "cluster.mjs", model)).toContain("First Citizen:");
  }, 120_000);

  it("has types that a strict program compiles with", () => {
    mkdirSync(join(folder, "node_modules/@types"), { recursive: true });
    symlinkSync(inPackage("@types/node"), join(folder, "node_modules/@types/node"), "dir");
    writeFileSync(join(folder, "program.mts"), program);
    const options = ["--module", "nodenext", "--target", "es2022", "--lib", "es2023,esnext.disposable", "--strict"];
    const tsc = inPackage("typescript/bin/tsc");
    run(
      folder,
      process.execPath,
      tsc,
      "--noEmit",
      "--types",
      "node",
      "--exactOptionalPropertyTypes",
      ...options,
      "program.mts",
    );
  }, 60_000);
});

const program = `
import { type Model, type Plan, StelliumError, type Writing, generate, join, loadModel, plan, pull, serve } from "stellium";

const story: Writing = generate({ model: "m.gguf", prompt: "Once", temperature: 0, signal: AbortSignal.timeout(1) });
for await (const piece of story) piece.toUpperCase();
const rate: number | undefined = story.result?.timings.predicted_per_second;
const model: Model = await loadModel("m.gguf", { cluster: { workers: 1, onJoin: ({ token }) => token.length } });
const text: string = await model.chat([{ role: "user", content: "Hello" }]).text();
const foretold: Plan = await plan({ model: "m.gguf", devices: 2 });
const fits: boolean = foretold.fits;
const files: readonly string[] = await pull("user/repo");
const { baseUrl } = await serve({ model: "m.gguf", parallel: 2 });
await join({ token: "0123456789abcdef", signal: new AbortController().signal });
// @ts-expect-error There is no such option.
generate({ model: "m.gguf", prompt: "", maxTokns: 1 });
console.log(rate, text, fits, files, baseUrl, new StelliumError("BAD_USAGE").hint);
`;
