import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
let folder: string;
let tarball: string;
let model: string;

function run(cwd: string, program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** Packs the package, or the workspace that is asked for, into the folder. */
function pack(...workspace: string[]): string {
  const printed = run(root, "npm", "pack", "--ignore-scripts", "--json", "--pack-destination", folder, ...workspace);
  const [{ filename }] = JSON.parse(printed) as [{ filename: string }];
  return join(folder, filename);
}

function install(...tarballs: string[]): void {
  run(folder, "npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", ...tarballs);
}

const inPackage = (name: string) => join(root, "node_modules", name);

describe("the packed package", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    tarball = pack();
    model = pack("--workspace", "stellium-demo-model");
    writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
    install(tarball, model);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("is small, since the demo's model is a package of its own", () => {
    expect(statSync(tarball).size).toBeLessThan(1_000_000);
  });

  it("is what linters of packages want", () => {
    for (const file of [tarball, model]) run(root, process.execPath, inPackage("publint/src/cli.js"), "--strict", file);
    run(root, process.execPath, inPackage("@arethetypeswrong/cli/dist/index.js"), "--profile", "esm-only", tarball);
  });

  it("installs without install scripts and has a bin that runs the demo", () => {
    const bin = join(folder, "node_modules/.bin/stellium");
    expect(run(folder, bin, "--version")).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(run(folder, bin, "demo", "--devices", "2", "--seed", "1", "-t", "1").length).toBeGreaterThan(100);
  });

  it("is a library with types, which its examples use", () => {
    for (const name of ["story.mjs", "cluster.mjs"]) copyFileSync(join(root, "examples", name), join(folder, name));
    const file = join(folder, "node_modules/stellium-demo-model/stellium-shakespeare-5m-q8_0.gguf");
    expect(run(folder, process.execPath, "story.mjs", file).length).toBeGreaterThan(100);
    expect(run(folder, process.execPath, "cluster.mjs", file)).toContain("First Citizen:");
  });

  it("says what the demo lacks without the model's package", () => {
    rmSync(join(folder, "node_modules/stellium-demo-model"), { recursive: true });
    const { status, stderr } = spawnSync(join(folder, "node_modules/.bin/stellium"), ["demo"], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain("package stellium-demo-model, is not installed");
  });

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
  });
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
