import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { deviceFeatures, extraBufferTypes } from "#stellium/native/backend";
import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { nativeDirectory, packageDirectory } from "#stellium/native/libraries";
import { tensorTypes } from "#stellium/native/tensorTypes";
import { skipUnless } from "../skip.ts";

const ggmlModule = fileURLToPath(new URL("../../dist/native/ggml.js", import.meta.url));

/** What loading ggml from a folder says, in a process of its own: libraries stay loaded. */
function loadFrom(directory: string): string {
  const script = `import(${JSON.stringify(ggmlModule)}).then(m => m.openGgml()).then(() => "loaded", e => e.code + ": " + e.message).then(t => process.stdout.write(t))`;
  const env = { ...process.env, STELLIUM_NATIVE_DIR: directory };
  return execFileSync(process.execPath, ["-e", script], { env, encoding: "utf8" });
}

describe("native libraries", () => {
  it("have the block sizes that the table of tensor types says", () => {
    const ggml = openGgml();
    for (const type of Object.values(tensorTypes)) {
      expect([Number(ggml.blockSize(type.id)), Number(ggml.typeSize(type.id))]).toEqual([
        type.blockElements,
        type.blockBytes,
      ]);
    }
  });

  it("offer a CPU that tells its features and layouts", () => {
    const ggml = openGgml();
    const device = cpuDevice(ggml);
    expect(ggml.deviceDescription(device)).not.toBe("");
    expect(deviceFeatures(device).every((name) => /^[A-Z0-9_]+$/.test(name))).toBe(true);
    expect(extraBufferTypes(device).every((type) => ggml.bufferTypeName(type) !== "CPU")).toBe(true);
  });

  it("are not to be had for an unknown platform", () => {
    expect(() => packageDirectory("plan9-mips")).toThrow(expect.objectContaining({ code: "PLATFORM_UNSUPPORTED" }));
  });

  it("are named where their package is missing", () => {
    const other = process.platform === "win32" ? "darwin-x64" : "win32-x64";
    expect(() => packageDirectory(other)).toThrow(
      expect.objectContaining({ code: "NATIVE_MISSING", message: expect.stringContaining("@node-llama-cpp/") }),
    );
  });

  it("are found where STELLIUM_NATIVE_DIR says", () => {
    expect(nativeDirectory({ STELLIUM_NATIVE_DIR: "/somewhere" })).toBe("/somewhere");
    expect(loadFrom(nativeDirectory())).toBe("loaded");
  });

  it("are refused in one line where the folder has none, or others", () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    expect(loadFrom(join(folder, "absent"))).toMatch(/^FILE_UNREADABLE: cannot read .*absent/);
    expect(loadFrom(folder)).toMatch(/^NATIVE_INCOMPATIBLE: .*there is no ggml-base library in it$/);
    writeFileSync(join(folder, "libggml-base.so"), "not a library");
    expect(loadFrom(folder)).toMatch(/^NATIVE_INCOMPATIBLE: /);
    rmSync(folder, { recursive: true });
  });

  it("are refused where functions are missing", skipUnless("linux"), () => {
    const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    // libc has none of ggml's functions.
    const libc = execFileSync("sh", ["-c", "ldd $(command -v node) | sed -n 's/.*=> \\(.*libm.so[^ ]*\\).*/\\1/p'"], {
      encoding: "utf8",
    }).trim();
    copyFileSync(libc, join(folder, "libggml-base.so"));
    copyFileSync(libc, join(folder, "libggml.so"));
    expect(loadFrom(folder)).toMatch(/^NATIVE_INCOMPATIBLE: .*ggml_/);
    rmSync(folder, { recursive: true });
  });
});
