import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { traceFile } from "#stellium/cli/traceFile";
import { writeCells } from "#stellium/engine/cellFile";
import { KeptPrefixes } from "#stellium/serving/keptPrefixes";
import { outputPath, replaceFile } from "#stellium/system/outputFile";
import { skipIf } from "../skip.ts";

const unix = skipIf(process.platform === "win32", "Windows has no pipes and owners of this kind");
const root = skipIf(process.getuid?.() !== 0, "only root can give files to another user");
const another = 12_345;
let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "stellium-output-"));
});

describe("a file that is to be written", () => {
  it("is refused at once if it is a pipe, a device or a folder", unix, async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    symlinkSync(pipe, join(folder, "link"));
    const places: [string, string][] = [
      [pipe, "a pipe"],
      [join(folder, "link"), "a pipe"],
      ["/dev/null", "a device"],
      [folder, "a folder"],
    ];
    for (const [path, kind] of places) {
      const refusal = { code: "FILE_UNWRITABLE", message: expect.stringContaining(`it is ${kind}, not a file`) };
      expect(() => traceFile(path)).toThrow(expect.objectContaining(refusal));
      await expect(KeptPrefixes.open(path, {} as never, {} as never)).rejects.toMatchObject(refusal);
    }
  });

  it("may be where this user's own link leads, which stays", unix, () => {
    const [target, link] = [join(folder, "disk", "trace.json"), join(folder, "trace.json")];
    mkdirSync(join(folder, "disk"));
    symlinkSync(join("disk", "trace.json"), link);
    expect(outputPath(link)).toBe(target);
    traceFile(link)([]);
    expect(JSON.parse(readFileSync(target, "utf8"))).toHaveProperty("traceEvents");
    symlinkSync("round", join(folder, "round"));
    expect(() => outputPath(join(folder, "round"))).toThrow(/too many links/);
  });

  it("is never another user's, nor where another user's link leads from a shared folder", root, () => {
    const [mine, theirs, link] = ["mine", "theirs", "link"].map((name) => join(folder, name));
    for (const path of [mine!, theirs!]) writeFileSync(path, "kept");
    chownSync(theirs!, another, another);
    symlinkSync(mine!, link!);
    lchownSync(link!, another, another);
    expect(() => traceFile(theirs!)).toThrow(/it belongs to another user/);
    expect(outputPath(link!)).toBe(mine);
    chmodSync(folder, 0o1777);
    expect(() => traceFile(link!)).toThrow(/another user's link in a folder that everyone can write/);
    expect([mine!, theirs!].map((path) => readFileSync(path, "utf8"))).toEqual(["kept", "kept"]);
  });

  it("is written beside its place, without following what lies there", unix, () => {
    const [path, victim] = [join(folder, "out"), join(folder, "victim")];
    writeFileSync(victim, "kept");
    symlinkSync(victim, `${path}.part`);
    replaceFile(path, () => {});
    expect(readFileSync(path, "utf8")).toBe("");
    symlinkSync(victim, `${path}.part`);
    writeCells({} as never, `${path}.part`, []);
    expect(readFileSync(victim, "utf8")).toBe("kept");
    const failing = () =>
      replaceFile(path, () => {
        throw new Error("no more");
      });
    expect(failing).toThrow(expect.objectContaining({ code: "FILE_UNWRITABLE" }));
    expect(readdirSync(folder)).toEqual(["out", "victim"]);
  });
});
