import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { cpuVariants } from "#stellium/native/cpuVariant";
import { nativeDirectory } from "#stellium/native/libraries";
import { environment, model, stellium } from "../cli/stellium.ts";
import { skipIf, skipUnless } from "../skip.ts";

const directory = nativeDirectory();
const present = cpuVariants({ directory, files: readdirSync(directory) });
const dist = (file: string) => fileURLToPath(new URL(`../../dist/${file}.js`, import.meta.url));

interface Loaded {
  readonly name?: string;
  readonly features?: string[];
  readonly layouts?: string[];
  readonly code?: string;
  readonly message?: string;
}

/** Loads ggml in a process of its own, since libraries stay loaded. */
function loadIn(env: Record<string, string>): Loaded {
  const script = `
    const [libraries, ggml, backend] = await Promise.all(${JSON.stringify(
      ["native/libraries", "native/ggml", "native/backend"].map(dist),
    )}.map((path) => import(path)));
    try {
      const api = ggml.openGgml();
      const device = ggml.cpuDevice(api);
      const layouts = backend.extraBufferTypes(device).map((type) => api.bufferTypeName(type));
      const loaded = { name: libraries.cpuVariantName(), features: backend.deviceFeatures(device), layouts };
      console.log(JSON.stringify(loaded));
    } catch ({ code, message }) {
      console.log(JSON.stringify({ code, message }));
    }`;
  const args = ["--input-type=module", "--eval", script];
  const whole = { ...environment(), STELLIUM_CPU: undefined, ...env };
  return JSON.parse(execFileSync(process.execPath, args, { env: whole, encoding: "utf8" }));
}

const loaded = new Map(present.map(({ name }) => [name, loadIn({ STELLIUM_CPU: name })]));
const runnable = [...loaded].filter(([, { code }]) => code === undefined).map(([name]) => name);
const others = [...loaded.keys()].filter((name) => !runnable.includes(name));

it("variants are found by the names of their files on every platform", () => {
  const files = ["libggml-cpu-zen4.so", "libggml-cpu-armv8.2_3.so", "ggml-cpu-haswell.dll", "libggml-cpu-m1.dylib"];
  const rest = ["libggml-cpu.so", "libggml-base.so", "libggml.v0.5.0.so", "libggml-cpu-.so", "libggml-cpu-zen4.so.bak"];
  const found = cpuVariants({ directory: "folder", files: [...rest, ...files] });
  expect(found.map(({ name }) => name)).toEqual(["armv8.2_3", "haswell", "m1", "zen4"]);
  expect(found[1]!.path).toBe(join("folder", "ggml-cpu-haswell.dll"));
});

describe("STELLIUM_CPU", skipIf(present.length === 0, "this platform has a single build of ggml's CPU kernels"), () => {
  it("loads each variant that this CPU runs, and says which", () => {
    expect(runnable).not.toEqual([]);
    for (const name of runnable) expect(loaded.get(name)).toMatchObject({ name, features: expect.any(Array) });
  });

  it("tells variants apart by their features, by which slices on disk are known", () => {
    const features = runnable.map((name) => loaded.get(name)!.features!.join(" "));
    expect(new Set(features).size).toBe(runnable.length);
  });

  it("is chosen by ggml where it is not set", () => {
    const best = loadIn({});
    expect(best).toEqual(loaded.get(best.name!));
    expect(loadIn({ STELLIUM_CPU: "" })).toEqual(best);
  });

  it("refuses names of no variant, and says which there are", () => {
    for (const name of ["nonsense", "../libggml-base", "ZEN4", "cpu", "x".repeat(10_000)]) {
      const { code, message } = loadIn({ STELLIUM_CPU: name });
      expect(code).toBe("CPU_VARIANT_INVALID");
      expect(message).toContain(`there is no such variant; this CPU runs ${runnable.join(", ")}`);
      expect(message!.length).toBeLessThan(600);
      for (const other of others) expect(message).toContain(other);
    }
  });

  it("refuses variants that this CPU cannot run", skipIf(others.length === 0, "this CPU runs every variant"), () => {
    for (const name of others) {
      const { code, message } = loaded.get(name)!;
      expect(code).toBe("CPU_VARIANT_INVALID");
      expect(message).toContain(`the CPU variant ${name} cannot be used: this CPU lacks instructions that it needs`);
      expect(message).toContain(`this CPU runs ${runnable.join(", ")}, and not ${others.join(", ")}`);
    }
  });

  it("refuses a file that is no library", () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    for (const file of readdirSync(directory)) symlinkSync(join(directory, file), join(folder, file));
    const extension = present[0]!.path.replace(/.*\./, "");
    writeFileSync(join(folder, `libggml-cpu-broken.${extension}`), "not a library");
    expect(loadIn({ STELLIUM_NATIVE_DIR: folder, STELLIUM_CPU: "broken" })).toMatchObject({
      code: "CPU_VARIANT_INVALID",
      message: expect.stringMatching(/^the CPU variant broken cannot be used: .*libggml-cpu-broken\..*: /),
    });
    expect(loadIn({ STELLIUM_NATIVE_DIR: folder, STELLIUM_CPU: "nonsense" }).message).toMatch(/, and not .*broken/);
    expect(loadIn({ STELLIUM_NATIVE_DIR: folder }).name).toBe(loadIn({}).name);
    rmSync(folder, { recursive: true });
  });

  it("refuses every name where there is a single build", skipUnless("linux"), () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    for (const file of readdirSync(directory).filter((name) => !name.startsWith("libggml-cpu"))) {
      symlinkSync(join(directory, file), join(folder, file));
    }
    const any = present.find(({ name }) => runnable.includes(name))!;
    symlinkSync(any.path, join(folder, "libggml-cpu.so"));
    expect(loadIn({ STELLIUM_NATIVE_DIR: folder })).toMatchObject({ features: loaded.get(any.name)!.features });
    const refused = loadIn({ STELLIUM_NATIVE_DIR: folder, STELLIUM_CPU: any.name });
    expect(refused.message).toMatch(/^the CPU variant \S+ cannot be used: .* has a single build of ggml's CPU kernels/);
    rmSync(folder, { recursive: true });
  });
});

const several = skipIf(runnable.length < 2, "this CPU runs one variant only, so there is no other to tell it from");

describe("variants on several devices", several, () => {
  const cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
  const run = async (variant: string) => {
    const options = ["-m", model, "-p", "ROMEO:", "-n", "12", "--temp", "0", "--devices", "2", "--cache-dir", cacheDir];
    const outcome = await stellium(["generate", ...options, "--json"], { env: { STELLIUM_CPU: variant } });
    expect(outcome.stderr).not.toContain("stellium:");
    const { tokens, devices } = JSON.parse(outcome.stdout) as { tokens: number[]; devices: Record<string, unknown>[] };
    return {
      tokens,
      variants: devices.map((device) => device["cpu_variant"]),
      sent: devices[0]!["control_bytes_sent"],
    };
  };

  it("reach every device, and none uses the slice that another has laid out", async () => {
    const [one, other] = [runnable[0]!, runnable.at(-1)!];
    const first = await run(one);
    const again = await run(one);
    const changed = await run(other);
    const back = await run(one);
    expect([first, changed].map(({ variants }) => variants)).toEqual([
      [one, one],
      [other, other],
    ]);
    expect(again.tokens).toEqual(first.tokens);
    expect(back.tokens).toEqual(first.tokens);
    // A slice that is there is not sent again.
    expect(Number(again.sent)).toBeLessThan(100_000);
    for (const { sent } of [first, changed, back]) expect(Number(sent)).toBeGreaterThan(1_000_000);
    rmSync(cacheDir, { recursive: true });
  });

  it("refuses what no device can run before anything starts", async () => {
    const options = ["-m", model, "-p", "x", "-n", "1", "--devices", "2"];
    const { code, stdout, stderr } = await stellium(["generate", ...options], { env: { STELLIUM_CPU: "nonsense" } });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^stellium: the CPU variant nonsense cannot be used: .*\n$/);
  });
});
