import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { model, start, stellium, until } from "./stellium.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(folder, { recursive: true }));
const serving = ["serve", model, "--port", "0", "--workers", "1", "--listen", "127.0.0.1:0"];

/** Starts a server, asks `stellium token`, and ends the server. Returns what both said. */
async function ask(cache: string, args: readonly string[] = [], env: Record<string, string> = {}) {
  const { child, outcome, ended } = start([...serving, ...args], { env: { STELLIUM_CACHE_DIR: cache, ...env } });
  await until(() => /run there:\n\n.*\n\n(.*\n\n)?/.test(outcome.stderr) || child.exitCode !== null);
  const answer = await stellium(["token"], { env: { STELLIUM_CACHE_DIR: cache } });
  child.kill("SIGTERM");
  return { said: (await ended).stderr, answer };
}

function joinToken(said: string): string | undefined {
  return /stellium join \S+ --token ([0-9a-z]{26})\n/.exec(said)?.[1];
}

it("a server's own token is printed once, kept in a file for its user alone, and printed by `stellium token`", async () => {
  const cache = join(folder, "own");
  const first = await ask(cache);
  const token = joinToken(first.said)!;
  expect(token).toMatch(/^\w{26}$/);
  expect(first.answer.stdout).toBe(`${token}\n`);
  const path = join(cache, "coordinator", "token");
  expect(readFileSync(path, "utf8").trim()).toBe(token);
  if (process.platform !== "win32") expect(statSync(path).mode & 0o777).toBe(0o600);
  const second = await ask(cache);
  expect(second.said).not.toContain(token);
  expect(second.said).toContain(`TOKEN is in ${path}`);
  expect(second.answer.stdout).toBe(`${token}\n`);
  const json = await stellium(["token", "--json"], { env: { STELLIUM_CACHE_DIR: cache } });
  expect(JSON.parse(json.stdout)).toEqual({ token, path });
});

it("a token from a file is not printed: the line names the file, which `stellium token` reads", async () => {
  const path = join(folder, "my token");
  writeFileSync(path, "the token of this test\n", { mode: 0o600 });
  const { said, answer } = await ask(join(folder, "file"), ["--token-file", path], {
    STELLIUM_TOKEN: "another token!!!",
  });
  expect(said).toMatch(`--token-file '${path}'`);
  expect(said).not.toMatch(/the token of this test|another token/);
  expect(answer.stdout).toBe("the token of this test\n");
});

it("a token from a variable is not printed, by nobody", async () => {
  const { said, answer } = await ask(join(folder, "variable"), [], { STELLIUM_TOKEN: "the token of this test" });
  expect(said).toMatch(/--token TOKEN\n\nTOKEN is what STELLIUM_TOKEN is here\n/);
  expect(said + answer.stderr + answer.stdout).not.toContain("the token of this test");
  expect([answer.code, answer.stdout]).toEqual([1, ""]);
  expect(answer.stderr).toMatch(/token that is in no file: it is in its variable STELLIUM_TOKEN/);
});

it("a token can be had before any server starts", async () => {
  const cache = join(folder, "early");
  const early = await stellium(["token"], { env: { STELLIUM_CACHE_DIR: cache } });
  const { said, answer } = await ask(cache);
  expect(answer.stdout).toBe(early.stdout);
  expect(said).not.toContain(early.stdout.trim());
});
