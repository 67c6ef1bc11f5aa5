import { fork } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { SliceStorage } from "#stellium/cluster/deviceSlice";
import { bringFiles } from "#stellium/models/pull";
import { isWithoutCache, writingTo } from "#stellium/system/cacheFolder";
import { onDisk } from "#stellium/weights/sliceDisk";
import { checkSlice } from "#stellium/weights/sliceStore";
import { removeAbandonedFolders, temporaryFolder, temporaryParents } from "#stellium/weights/temporaryFolder";
import { skipIf } from "../skip.ts";
import { plainBlock, sliceOf } from "../weights/sliceFixture.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-folder-"));
writeFileSync(join(folder, "file"), "");
symlinkSync("loop", join(folder, "loop"));

const locks = skipIf(process.platform === "win32", "Windows has no locks that tell which processes live");

/** Cache directories that even root cannot write, with the reason. */
const unusable: [string, string][] = [
  ["ENOTDIR", join(folder, "file", "cache")],
  ["ELOOP", join(folder, "loop", "cache")],
  ["ENAMETOOLONG", join(folder, "n".repeat(300))],
  ["ENOENT", "/proc/stellium"],
];
const { header, source, cut } = sliceOf([1], 0);

function origin(requests: (readonly number[])[] = []) {
  return {
    source: {
      begin: async (blocks: readonly number[]) => void requests.push(blocks),
      block: (index: number) => plainBlock(source, cut, index),
    },
  };
}

const slice = { cut, header, rooms: { blocks: [], experts: [] } };

function failing(code: string): Promise<never> {
  return Promise.reject(Object.assign(new Error(`${code}: refused, open 'x'`), { code, errno: -1, path: "/x/y" }));
}

describe("writing where it is refused", () => {
  const codes = ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EIO", "EFBIG", "ESTALE"];

  it.each(codes)("%s counts as a cache that cannot be written", async (code) => {
    const error = await onDisk("/x", 1, () => failing(code)).catch((error: unknown) => error);
    expect(isWithoutCache(error)).toBe(true);
    expect(error).toMatchObject({
      code: "CACHE_UNWRITABLE",
      message: `${userInfo().username} cannot write /x/y: ${code}: refused`,
      hint: expect.stringContaining("Set STELLIUM_CACHE_DIR to a folder"),
    });
  });

  it.each(["ENOSPC", "EDQUOT"])("%s counts as a full disk", async (code) => {
    const error = await onDisk("/x", 1, () => failing(code)).catch((error: unknown) => error);
    expect(isWithoutCache(error)).toBe(true);
    expect(error).toMatchObject({ code: "DISK_FULL" });
  });

  it("leaves mistakes in the program as they are", async () => {
    const mistake = () => Promise.reject(new TypeError("not a function"));
    await expect(onDisk("/x", 1, mistake)).rejects.toThrow(TypeError);
    await expect(writingTo("/x", "HF_HOME", mistake)).rejects.toThrow(TypeError);
  });

  it("names the variable of models where those cannot be written", async () => {
    const file = {
      name: "m",
      url: "http://127.0.0.1:9/m",
      bytes: 1,
      digest: undefined,
      variable: "HF_HUB_CACHE",
    } as const;
    for (const [reason, path] of unusable) {
      await expect(bringFiles("m", [{ ...file, target: join(path, "m") }], {})).rejects.toMatchObject({
        code: "CACHE_UNWRITABLE",
        message: expect.stringContaining(reason),
        hint: expect.stringContaining("HF_HUB_CACHE"),
      });
    }
  });
});

describe("a worker's slices", () => {
  it.each(unusable)("go to a folder for temporary files (%s)", async (reason, cacheDir) => {
    const spare = mkdtempSync(join(folder, "spare-"));
    const told: string[] = [];
    const storage = new SliceStorage(
      { cacheDir },
      ({ message }) => told.push(message),
      () => spare,
    );
    await using hold = await storage.obtain(slice, origin());
    const { path } = hold;
    expect(path.startsWith(join(spare, "slices"))).toBe(true);
    await using again = await storage.obtain(slice, origin());
    expect(again.path).toBe(path);
    expect(told).toEqual([expect.stringContaining(reason)]);
  });

  it("go there, too, if one is damaged where nothing can be written", async () => {
    const [cacheDir, spare] = ["damaged-", "spare-"].map((name) => mkdtempSync(join(folder, name)));
    const requests: (readonly number[])[] = [];
    const storage = new SliceStorage({ cacheDir }, undefined, () => spare);
    const obtained = await storage.obtain(slice, origin());
    await obtained[Symbol.asyncDispose]();
    const last = statSync(obtained.path).size - 4096;
    const file = openSync(obtained.path, "r+");
    writeSync(file, Buffer.of(1, 2, 3, 4), 0, 4, last);
    closeSync(file);
    rmSync(join(cacheDir!, "lock"));
    mkdirSync(join(cacheDir!, "lock"));
    await using unnoticed = await storage.obtain(slice, origin(requests));
    expect([unnoticed.path, requests]).toEqual([obtained.path, []]);
    await using sound = await storage.obtain(slice, { ...origin(requests), suspect: true });
    expect(sound.path.startsWith(join(spare!, "slices"))).toBe(true);
    expect(requests).toHaveLength(1);
    expect((await checkSlice(join(spare!, "slices"), header, { verify: true })).reason).toBeUndefined();
  });

  it("fail with the reason if there is no such folder either", async () => {
    const [reason, cacheDir] = unusable[0]!;
    const storage = new SliceStorage({ cacheDir }, undefined, () => undefined);
    await expect(storage.obtain(slice, origin())).rejects.toMatchObject({
      code: "CACHE_UNWRITABLE",
      message: expect.stringContaining(reason),
    });
  });

  it("are not requested twice if writing fails halfway", async () => {
    const requests: (readonly number[])[] = [];
    const cacheDir = mkdtempSync(join(folder, "half-"));
    const broken = origin(requests);
    broken.source.block = () => {
      throw Object.assign(new Error("EROFS: read-only file system, write"), { code: "EROFS", errno: -30 });
    };
    const storage = new SliceStorage({ cacheDir }, undefined, () => join(folder, "elsewhere"));
    await expect(storage.obtain(slice, broken)).rejects.toThrow("EROFS");
    expect(requests).toHaveLength(1);
  });
});

describe("temporaryFolder", () => {
  it("takes absolute folders only, TMPDIR first", () => {
    const parents = temporaryParents({ TMPDIR: "/data/tmp" });
    expect(parents).toEqual(["/data/tmp", "/var/tmp", "/tmp"]);
    for (const value of ["", "rel"]) expect(temporaryParents({ TMPDIR: value })).toEqual(["/var/tmp", "/tmp"]);
  });

  it("removes those of processes that were killed, of this user, and nothing else", locks, async () => {
    const disk = mkdtempSync(join(folder, "left-"));
    const program = `import { temporaryFolder } from "#stellium/weights/temporaryFolder";
      process.send(temporaryFolder([${JSON.stringify(disk)}]));
      setInterval(() => {}, 1000);`;
    const options = {
      execArgv: ["--input-type=module", "-e", program],
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
    };
    const children = ["killed", "running"].map(() => fork("-", options));
    const said = await Promise.all(children.map((child) => once(child, "message")));
    const [killed, running] = said.map(([path]) => String(path));
    const foreign = join(disk, "stellium-abcdef");
    mkdirSync(foreign);
    symlinkSync(foreign, join(disk, "stellium-ghijkl"));
    removeAbandonedFolders([disk]);
    expect(readdirSync(disk)).toHaveLength(4);
    const gone = children.map((child) => once(child, "exit"));
    children[0]!.kill("SIGKILL");
    await gone[0];
    removeAbandonedFolders([disk, join(folder, "missing")]);
    expect(readdirSync(disk).sort()).toEqual([basename(running!), "stellium-abcdef", "stellium-ghijkl"].sort());
    expect(existsSync(killed!)).toBe(false);
    children[1]!.kill("SIGKILL");
    await gone[1];
  });

  it("passes by folders that are missing or lie in memory", () => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const made = temporaryFolder([join(folder, "missing"), "/dev/shm", disk])!;
    expect(readdirSync(disk)).toEqual([made.slice(disk.length + 1)]);
    rmSync(made, { recursive: true });
    expect(temporaryFolder([join(folder, "missing")])).toBeUndefined();
  });
});
