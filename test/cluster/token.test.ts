import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { JoinToken, resolveToken } from "#stellium/cluster/token";
import { skipOnWindows } from "../skip.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-token-"));
afterAll(() => rmSync(folder, { recursive: true }));

const usage = expect.objectContaining({ code: "BAD_USAGE" });

function tokenFile(name: string, content: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

describe("a join token", () => {
  it("is generated from 130 bits, easy to copy, and another one each time", () => {
    const tokens = Array.from({ length: 200 }, () => JoinToken.generate().text);
    expect(new Set(tokens).size).toBe(200);
    for (const text of tokens) expect(text).toMatch(/^[0-9a-hjkmnp-tv-z]{26}$/);
    expect(JoinToken.parse(tokens[0]!).text).toBe(tokens[0]);
  });

  it.each(["correct horse battery staple", "sechzehn Zeichen", "ключ от кластера", "🔑".repeat(16), "x".repeat(1024)])(
    "may be %s",
    (text) => {
      expect(JoinToken.parse(text).text).toBe(text);
    },
  );

  it.each([
    "",
    "fifteen letters",
    "🔑".repeat(15),
    "x".repeat(1025),
    `with\n${"x".repeat(16)}`,
    `\ud800${"x".repeat(16)}`,
  ])("may not be %j", (text) => {
    expect(() => JoinToken.parse(text)).toThrow(usage);
  });

  it("is the same however its characters were composed", () => {
    const composed = JoinToken.parse("caf\u00e9 caf\u00e9 caf\u00e9 12345");
    expect(JoinToken.parse("cafe\u0301 cafe\u0301 cafe\u0301 12345").equals(composed)).toBe(true);
    expect(JoinToken.generate().equals(composed)).toBe(false);
  });

  it("gives a key for each purpose, always the same", () => {
    const token = JoinToken.parse("correct horse battery staple");
    expect(token.key("control")).toHaveLength(32);
    expect(token.key("control")).toEqual(JoinToken.parse("correct horse battery staple").key("control"));
    expect(token.key("control")).not.toEqual(token.key("comparison"));
    expect(token.key("control").toString("hex")).toMatchInlineSnapshot(
      `"39c70e9cae0024361b33f83bdb3decc1b5f1c4a3defe4ad4b2fd594109376b9d"`,
    );
  });

  it("does not show when it is logged", () => {
    const token = JoinToken.generate();
    expect(`${token} ${JSON.stringify({ token })} ${inspect({ token })} ${inspect(token)}`).not.toContain(token.text);
  });
});

describe("a token's source", () => {
  const [flag, set, filed] = ["given by the flag", "set in environment", "written in a file"];

  it("is the flag, else the file, else the environment", async () => {
    const file = tokenFile("order", `${filed}\n`);
    const env = { STELLIUM_TOKEN: set };
    expect((await resolveToken({ flag, env, file }))?.text).toBe(flag);
    expect((await resolveToken({ env, file }))?.text).toBe(filed);
    expect((await resolveToken({ env }))?.text).toBe(set);
    expect(await resolveToken({ env: { STELLIUM_TOKEN: "" } })).toBeUndefined();
    expect(await resolveToken({})).toBeUndefined();
  });

  it.each([0o644, 0o640, 0o604, 0o620])("may not have mode %o", skipOnWindows("modes of files"), async (mode) => {
    const file = tokenFile("exposed", filed, mode);
    await expect(resolveToken({ file })).rejects.toThrow(usage);
    await expect(resolveToken({ file })).rejects.toThrow(/mode 06[024]{2}.*chmod 600/s);
  });

  it("has to be there and hold a token", async () => {
    const missing = resolveToken({ file: join(folder, "missing") });
    await expect(missing).rejects.toThrow(expect.objectContaining({ code: "FILE_UNREADABLE" }));
    const directory = join(folder, "directory");
    execFileSync("mkdir", ["-m", "700", directory]);
    await expect(resolveToken({ file: directory })).rejects.toThrow(
      expect.objectContaining({ code: "FILE_UNREADABLE" }),
    );
    await expect(resolveToken({ file: tokenFile("empty", "") })).rejects.toThrow(usage);
    await expect(resolveToken({ file: tokenFile("large", "x".repeat(1e6)) })).rejects.toThrow(usage);
    await expect(resolveToken({ flag: "short" })).rejects.toThrow(usage);
  });
});
