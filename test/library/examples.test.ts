import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

const examples = join(import.meta.dirname, "../../examples");

it("the example with the AI SDK shows an answer, and ends", () => {
  const file = join(examples, "ai-sdk.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 150_000 });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(stdout.trim().length).toBeGreaterThan(0);
});

it("the example with two laptops has the second take part by the line that the first prints", async () => {
  const cacheDir = mkdtempSync(join(tmpdir(), "stellium-example-"));
  const env = { ...process.env, STELLIUM_CACHE_DIR: cacheDir, STELLIUM_TOKEN: "" };
  const run = (args: string[], token = "") =>
    spawn(process.execPath, [join(examples, "two-laptops.mjs"), ...args], { env: { ...env, STELLIUM_TOKEN: token } });
  const model = join(import.meta.dirname, "../../models/stellium-shakespeare-5m-q8_0.gguf");
  const first = run([model, "ROMEO:", "127.0.0.1:0"]);
  let second: ReturnType<typeof run> | undefined;
  try {
    const told = { text: "", said: "" };
    first.stdout.on("data", (bytes) => {
      told.text += bytes;
    });
    first.stderr.on("data", (bytes) => {
      told.said += bytes;
      const line = /STELLIUM_TOKEN=(\S+) node two-laptops.mjs (--join) (\S+)/.exec(told.said);
      if (line) second ??= run(line.slice(2), line[1]);
    });
    const [code] = await once(first, "close");
    expect({ code, said: told.said }).toMatchObject({ code: 0, said: expect.stringContaining("is here") });
    expect(told.text.length).toBeGreaterThan(100);
    second!.kill("SIGINT");
    expect(await once(second!, "close")).toEqual([0, null]);
  } finally {
    first.kill("SIGKILL");
    second?.kill("SIGKILL");
    rmSync(cacheDir, { recursive: true, force: true });
  }
});
