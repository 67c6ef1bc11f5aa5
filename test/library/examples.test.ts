import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";

it("the example with the AI SDK shows an answer, and ends", () => {
  const file = join(import.meta.dirname, "../../examples/ai-sdk.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 50_000 });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(stdout.trim().length).toBeGreaterThan(0);
});
