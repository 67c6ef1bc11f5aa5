import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { koffiError } from "#stellium/native/koffi";
import { nativeDirectory, packageDirectory } from "#stellium/native/libraries";
import { checkPlatform } from "#stellium/native/platform";
import {
  checkCpuBuilds,
  checkLibc,
  checkLibrary,
  leastGlibc,
  noCpuBuild,
  type SystemFacts,
  unmetNeed,
} from "#stellium/native/systemCheck";
import { type ElfLibrary, readElf } from "#stellium/system/elf";
import { model, stellium } from "../cli/stellium.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-system-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A system that has all that the pinned packages need. */
const facts: SystemFacts = {
  arch: "x64",
  glibc: "2.34",
  otherLibc: "not glibc",
  versions: () => [],
};
const needs = (versions: Record<string, string[]>): Pick<ElfLibrary, "libraries" | "needs"> => ({
  libraries: Object.keys(versions),
  needs: new Map(Object.entries(versions)),
});

/** The packages for Linux that are installed: all of them can be read on any system. */
const packages = ["linux-x64", "linux-arm64"].flatMap((platform) => {
  try {
    return [packageDirectory(platform)];
  } catch {
    return [];
  }
});

/** A folder with this platform's libraries, those that `pattern` names in need of a glibc that there is not. */
function renamed(pattern: RegExp): string {
  const directory = mkdtempSync(join(folder, "renamed-"));
  for (const name of readdirSync(nativeDirectory({})).filter((file) => /^lib(ggml|llama\.)/.test(file))) {
    const [from, to] = [join(nativeDirectory({}), name), join(directory, name)];
    copyFileSync(from, to);
    if (!pattern.test(name)) continue;
    writeFileSync(to, readFileSync(from, "latin1").replaceAll("GLIBC_2.34\0", "GLIBC_2.94\0"), "latin1");
  }
  return directory;
}

describe("what libraries need", () => {
  const oldGlibc = { ...facts, glibc: "2.31" };
  const musl = { ...facts, glibc: undefined, otherLibc: "musl" };
  const cases: [string, SystemFacts, Record<string, string[]>, string | undefined][] = [
    ["nothing missing", facts, { "libc.so.6": ["GLIBC_2.4", "GLIBC_2.34"] }, undefined],
    ["2.9 before 2.34", { ...facts, glibc: "2.9" }, { "libm.so.6": ["GLIBC_2.34"] }, "glibc is 2.9; 2.34 or newer"],
    ["an old glibc", oldGlibc, { "libc.so.6": ["GLIBC_2.34", "GLIBC_2.4"] }, "glibc is 2.31; 2.34 or newer"],
    ["musl", musl, { "libc.so.6": ["GLIBC_2.34"] }, "C library is musl; glibc 2.34 or newer"],
    ["a build for musl", musl, { "libc.musl-x86_64.so.1": [] }, undefined],
    [
      "an old libstdc++",
      { ...facts, versions: () => ["GLIBCXX_3.4.9", "GLIBCXX_3.4.28"] },
      { "libstdc++.so.6": ["GLIBCXX_3.4.9", "GLIBCXX_3.4.30"] },
      "libstdc++.so.6 is GLIBCXX_3.4.28; GLIBCXX_3.4.30 or newer",
    ],
    [
      "another family",
      { ...facts, versions: () => ["GCC_3.0"] },
      { "libgomp.so.1": ["GOMP_4.0"] },
      "libgomp.so.1 is without GOMP; GOMP_4.0 or newer",
    ],
    ["no such library", { ...facts, versions: () => undefined }, { "libgomp.so.1": [] }, "has no libgomp.so.1"],
    ["unknown versions", facts, { "libstdc++.so.6": ["GLIBCXX_3.4.30"] }, undefined],
  ];

  it.each(cases)("%s", (_, system, wanted, said) => {
    expect(unmetNeed(needs(wanted), "libggml.so", system)?.message).toEqual(said && expect.stringContaining(said));
  });

  it("is not asked of the system if it lies beside them", () => {
    const system = { ...facts, versions: () => undefined };
    expect(unmetNeed(needs({ "libggml-base.so": [] }), "libggml.so", system, ["libggml-base.so"])).toBeUndefined();
  });

  it("is what the docs and the errors say, for the pinned packages", () => {
    expect(packages.length).toBeGreaterThan(0);
    for (const directory of packages) {
      const used = readdirSync(directory).filter((name) => /^lib(ggml|llama\.).*\.so$/.test(name));
      const all = used.flatMap((name) => [...readElf(join(directory, name))!.needs.values()].flat());
      const of = (family: string) =>
        all
          .filter((name) => name.startsWith(family))
          .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
          .at(-1);
      expect([of("GLIBC_"), of("GLIBCXX_")]).toEqual([`GLIBC_${leastGlibc}`, "GLIBCXX_3.4.29"]);
    }
  });

  it("is said before another C library's missing package", () => {
    expect(() => checkLibc(musl)).toThrow("this system's C library is musl; glibc 2.34 or newer is needed");
    expect(() => checkLibc(facts)).not.toThrow();
  });
});

describe("libraries for other machines", () => {
  it.each(packages)("are refused: %s", (directory) => {
    const [file] = readdirSync(directory).filter((name) => /^libggml-base\.so$/.test(name));
    const arch = directory.includes("arm64") ? "arm64" : "x64";
    expect(() => checkLibrary(directory, file!, { ...facts, arch })).not.toThrow();
    expect(() => checkLibrary(directory, file!, { ...facts, arch: "arm" })).toThrow(
      expect.objectContaining({ code: "NATIVE_INCOMPATIBLE", message: expect.stringContaining(`built for ${arch}`) }),
    );
  });
});

describe("platforms", () => {
  it("are said to be without a build, unless one is named", () => {
    const platform = process.platform;
    try {
      for (const other of ["android", "freebsd"]) {
        Object.defineProperty(process, "platform", { value: other });
        expect(() => checkPlatform({})).toThrow(`no native build of ggml for ${other}-`);
        expect(() => checkPlatform({ STELLIUM_NATIVE_DIR: "/build" })).not.toThrow();
      }
    } finally {
      Object.defineProperty(process, "platform", { value: platform });
    }
  });

  it("without koffi say so in the way of other errors", () => {
    expect(koffiError(new Error("Cannot find the native Koffi module"))).toMatchObject({ code: "NATIVE_MISSING" });
    expect(koffiError(new Error("version `GLIBC_2.94' not found"))).toMatchObject({
      code: "NATIVE_INCOMPATIBLE",
      message: expect.stringContaining("GLIBC_2.94"),
    });
  });

  it.each(["android", "freebsd"])("%s ends every verb in one line", async (platform) => {
    const script = `data:text/javascript,Object.defineProperty(process,'platform',{value:'${platform}'})`;
    const env = { NODE_OPTIONS: `--import "${script}"`, STELLIUM_NATIVE_DIR: "" };
    for (const args of [
      ["generate", "-m", model, "-p", "hi"],
      ["join", "127.0.0.1:9", "--token", "0123456789abcdef"],
    ]) {
      const { code, stderr } = await stellium(args, { env });
      expect(stderr).toMatch(new RegExp(`^stellium: there is no native build of ggml for ${platform}-.*\n$`));
      expect(code).toBe(1);
    }
  });
});

import { skipUnless } from "../skip.ts";

describe("CPUs below ggml's least build", () => {
  const directory = mkdtempSync(join(folder, "cpu-"));
  for (const name of ["haswell", "skylakex"]) writeFileSync(join(directory, `libggml-cpu-${name}.so`), "");

  it("are told what they lack", () => {
    const { code, message } = noCpuBuild(directory, "model name : old\nflags\t\t: fpu sse4_2 avx fma\n");
    expect(code).toBe("CPU_UNSUPPORTED");
    expect(message).toMatch(/its builds are for haswell, skylakex; this CPU has no f16c, avx2, bmi2$/);
  });

  it("are told which builds there are if the system does not say what they have", () => {
    expect(noCpuBuild(directory, "").message).toMatch(/its builds are for haswell, skylakex$/);
    expect(noCpuBuild(mkdtempSync(join(folder, "none-")), "").message).toMatch(/there is no libggml-cpu in it$/);
  });
});

describe("a glibc that is too old", skipUnless("linux"), () => {
  const said = /^stellium: this system's glibc is \d\.\d+; 2\.94 or newer is needed\. Use Debian 12.*\n$/;
  const some = renamed(/^libggml-cpu-(?!sse42)/);
  const cpu = renamed(/^libggml-cpu/);
  const glibc = { ...facts, arch: process.arch, glibc: "2.36" };

  it("is seen in builds for CPUs, of which ggml itself says nothing, unless one of them will do", () => {
    expect(() => checkCpuBuilds(cpu, glibc)).toThrow("glibc is 2.36; 2.94 or newer");
    const none = readdirSync(some).every((name) => !name.includes("sse42"));
    if (none) expect(() => checkCpuBuilds(some, glibc)).toThrow("2.94");
    else expect(() => checkCpuBuilds(some, glibc)).not.toThrow();
  });

  it("ends join at once, and other verbs", async () => {
    for (const [directory, args] of [
      [cpu, ["join", "127.0.0.1:9", "--token", "0123456789abcdef"]],
      [renamed(/^libggml\./), ["join", "--token", "0123456789abcdef"]],
      [cpu, ["generate", "-m", model, "-p", "hi", "-n", "2"]],
    ] as const) {
      const { code, stderr } = await stellium(args, { env: { STELLIUM_NATIVE_DIR: directory } });
      expect(stderr).toMatch(said);
      expect(code).toBe(1);
    }
  });
});

describe("readElf", () => {
  const source = readFileSync(join(packages[0]!, "libggml-base.so"));
  const path = join(folder, "mutated.so");
  const read = (bytes: Uint8Array) => {
    writeFileSync(path, bytes);
    return readElf(path);
  };

  it("reads what a library needs and provides", () => {
    const library = read(source)!;
    expect(library.libraries).toContain("libc.so.6");
    expect(library.needs.get("libstdc++.so.6")).toContain("GLIBCXX_3.4.29");
    expect(library.provides).toEqual([]);
    const cLibrary = process.report.getReport() as unknown as { sharedObjects: string[] };
    const provider = cLibrary.sharedObjects.find((file) => /libstdc\+\+\.so/.test(file));
    if (provider !== undefined) expect(readElf(provider)!.provides).toContain("GLIBCXX_3.4.21");
    expect(read(Buffer.from("a script"))).toBeUndefined();
    expect(() => readElf(join(folder, "missing.so"))).toThrow("ENOENT");
  });

  it("says that damaged files are none, and ends", () => {
    for (const bytes of [0, 3, 63, 64, 500, 4096, 100_000]) expect(read(source.subarray(0, bytes))).toBeUndefined();
    let random = 1;
    for (let run = 0; run < 300; run++) {
      const bytes = Buffer.from(source.subarray(0, 200_000));
      for (let i = 0; i < 20; i++) {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
        bytes[random % (run % 2 === 0 ? 1024 : bytes.length)] = random >>> 24;
      }
      const found = read(bytes);
      expect((found?.provides.length ?? 0) + (found?.libraries.length ?? 0)).toBeLessThan(1e6);
    }
  });
});
