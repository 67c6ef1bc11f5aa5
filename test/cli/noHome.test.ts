import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { skipIf } from "../skip.ts";
import { model, program, stellium } from "./stellium.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-home-"));
afterAll(() => rmSync(folder, { recursive: true }));

const file = join(folder, "file");
writeFileSync(file, "");
const generate = ["generate", "-m", model, "-p", "ROMEO:", "-n", "4", "-c", "256", "--temp", "0"];
const expected = (await stellium(generate)).stdout;
/** Nothing of the environment but what is given. */
const temporary = join(folder, "temporary");
mkdirSync(temporary);
const bare = { HOME: "", XDG_CACHE_HOME: "", STELLIUM_THREADS: "1", TMPDIR: temporary };

/** Runs a command with this environment alone. */
function run(command: readonly string[], env: Record<string, string>, cwd = folder): SpawnSyncReturns<string> {
  return spawnSync(command[0]!, command.slice(1), {
    env: { PATH: process.env["PATH"]!, ...env },
    cwd,
    encoding: "utf8",
  });
}

/** A user id that no entry of the system's user database has; only root can take it. */
const stranger = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", process.execPath, program];
const probe = run([...stranger, "--version"], {});
const asStranger = skipIf(probe.status !== 0, `no other user can be taken: ${probe.stderr || "there is no setpriv"}`);

describe("a cache directory that cannot be written", () => {
  const places: [string, string, RegExp][] = [
    ["is in a file", join(file, "cache"), /ENOTDIR/],
    ["is where nothing can be made", "/proc/stellium", /ENOENT/],
    ["has too long a name", join(folder, "n".repeat(300)), /ENAMETOOLONG/],
  ];

  it.each(places)("%s: several devices answer the same, with a warning", (_, cache, reason) => {
    const env = { ...bare, STELLIUM_CACHE_DIR: cache };
    const { status, stdout, stderr } = run([process.execPath, program, ...generate, "--devices", "3"], env);
    expect([status, stdout]).toEqual([0, expected]);
    expect(stderr.match(/^warn: .* cannot write .*Set STELLIUM_CACHE_DIR.*$/gm)).toEqual([
      expect.stringMatching(reason),
    ]);
    expect(readdirSync(temporary)).toEqual([]);
  });

  it.each(places)("%s: what does not fit in memory is streamed from the model's file", async (_, cache, reason) => {
    const { stderr: refusal } = await stellium([...generate, "--memory", "20MB"]);
    const least = /needs (\d+ MB) at least/.exec(refusal)![1]!;
    const env = { ...bare, STELLIUM_CACHE_DIR: cache };
    const { status, stdout, stderr } = run([process.execPath, program, ...generate, "--memory", least], env);
    expect([status, stdout]).toEqual([0, expected]);
    expect(stderr).toMatch(/each step reads/);
    expect(stderr).toMatch(/streamed from its own file/);
    expect(stderr).toMatch(reason);
  });

  it("is no cache to list, and names itself where models would be fetched to", () => {
    const env = { ...bare, HOME: file, HF_HOME: join(file, "hub"), STELLIUM_CACHE_DIR: join(file, "cache") };
    for (const verb of ["ls", "ps", "cache"]) {
      expect(run([process.execPath, program, verb], env)).toMatchObject({ status: 0, stderr: "" });
    }
  });
});

describe("a home directory that is none", () => {
  it.each([
    { HOME: "rel" },
    { HOME: folder, XDG_CACHE_HOME: "rel" },
    { HOME: "rel", XDG_CACHE_HOME: "rel", HF_HOME: "" },
  ])("is not made in the working directory: %j", (env) => {
    const cwd = mkdtempSync(join(folder, "cwd-"));
    const cache = { STELLIUM_CACHE_DIR: env.HOME === folder ? "" : join(folder, "cache") };
    const { status } = run(
      [process.execPath, program, ...generate, "--devices", "2"],
      { ...bare, ...env, ...cache },
      cwd,
    );
    expect([status, existsSync(join(cwd, "rel"))]).toEqual([0, false]);
  });

  it("is not needed by a user without an entry", asStranger, () => {
    const env = { TMPDIR: tmpdir(), STELLIUM_THREADS: "1" };
    expect(run([...stranger, ...generate], env)).toMatchObject({ status: 0, stdout: expected });
    const devices = run([...stranger, ...generate, "--devices", "2"], { STELLIUM_THREADS: "1" });
    expect(devices).toMatchObject({ status: 0, stdout: expected });
    expect(devices.stderr).toMatch(/^warn: uid 54321 has no home directory; .*Set STELLIUM_CACHE_DIR/m);
    for (const [verb, variable] of [
      ["ls", "HF_HOME"],
      ["ps", "STELLIUM_CACHE_DIR"],
      ["cache", "STELLIUM_CACHE_DIR"],
    ] as const) {
      const { status, stdout } = run([...stranger, verb], env);
      expect([status, stdout]).toEqual([
        0,
        expect.stringContaining(`uid 54321 has no home directory; set ${variable}`),
      ]);
    }
    const pull = run([...stranger, "pull", "user/repo"], { ...env, HF_ENDPOINT: "http://127.0.0.1:9" });
    expect([pull.status, pull.stderr.match(/^stellium: .*$/gm)]).toEqual([1, [expect.any(String)]]);
  });
});

const readOnly = join(folder, "readonly");
mkdirSync(readOnly);
const mount = `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"`;
const mounting = spawnSync("unshare", ["-m", "sh", "-c", mount, readOnly], { encoding: "utf8" });
const withMounts = skipIf(mounting.status !== 0, `nothing can be mounted: ${mounting.stderr || "there is no unshare"}`);

describe("a read-only file system", () => {
  it("is named by what removes from it", withMounts, () => {
    const snapshot = join(readOnly, "hub/models--user--repo/snapshots", "a".repeat(40));
    mkdirSync(snapshot, { recursive: true });
    copyFileSync(model, join(snapshot, "m-Q8_0.gguf"));
    mkdirSync(join(readOnly, "slices"), { recursive: true });
    writeFileSync(join(readOnly, "slices", "broken.slice"), "");
    const env = { ...bare, HF_HOME: readOnly, STELLIUM_CACHE_DIR: readOnly };
    for (const [args, variable] of [
      [["rm", "user/repo"], "HF_HUB_CACHE"],
      [["cache", "prune", "--all"], "STELLIUM_CACHE_DIR"],
    ] as const) {
      const script = `${mount} && exec "$@"`;
      const { status, stderr } = run(
        ["unshare", "-m", "sh", "-c", script, readOnly, process.execPath, program, ...args],
        env,
      );
      expect([status, stderr]).toEqual([1, expect.stringMatching(/^stellium: .* cannot write .*: EROFS.*\n$/)]);
      expect(stderr).toContain(`Set ${variable} `);
    }
  });

  it("is no reason to fail for several devices", withMounts, () => {
    const script = `${mount} && HOME="$0" exec "$@"`;
    const command = ["unshare", "-m", "sh", "-c", script, readOnly, process.execPath, program, ...generate];
    const { status, stdout, stderr } = run([...command, "--devices", "2"], bare);
    expect([status, stdout]).toEqual([0, expected]);
    expect(stderr).toMatch(/cannot write .*: EROFS/);
  });
});
