import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { recordedReplay } from "#stellium/library/planning/recordedReplay";
import { generateModel } from "../../bench/generateModel.mjs";
import { model as bundled, stellium } from "./stellium.ts";

const folder = mkdtempSync(join(tmpdir(), "stellium-routing-"));
const path = join(folder, "moe.gguf");
const record = join(folder, "record.routing");
const rates = ["--compute", "1GB/s", "--disk", "1GB/s"];

beforeAll(() => generateModel({ path, shape: "tiny-qwen3moe", type: "F32", seed: 1, layers: 60 }));
afterAll(() => rmSync(folder, { recursive: true }));

async function planned(args: readonly string[]) {
  const { code, stdout } = await stellium(["plan", "-m", path, ...rates, ...args, "--json"]);
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

describe("a routing record", () => {
  it("of a text is what a plan's hit rate comes from", async () => {
    const writing = ["generate", "-m", path, "-p", "a b c d", "-n", "40", "--ignore-eos", "--record-routing", record];
    expect(await stellium(writing)).toMatchObject({ code: 0, stderr: "" });
    const whole = (await planned([])).devices[0];
    const memory = String(Math.round(whole.total_bytes - 0.2 * whole.expert_bytes));
    const assumed = await planned(["--memory", memory]);
    const known = await planned(["--memory", memory, "--routing", record]);
    const { experts, expert_slots } = assumed.devices[0];
    expect(expert_slots).toBeLessThan(experts);
    expect(assumed.sources.experts).toBe("assumed");
    expect(assumed.devices[0].expert_hit_rate).toBe(expert_slots / experts);
    expect(known.sources.experts).toBe("given");
    const hitRate = (await recordedReplay(record)).hitRate(expert_slots);
    expect(known.devices[0].expert_hit_rate).toBe(hitRate);
    const missing = (rate: number) => 1 - rate;
    const factor = missing(hitRate) / missing(expert_slots / experts);
    expect(known.devices[0].expert_bytes_per_token).toBeCloseTo(factor * assumed.devices[0].expert_bytes_per_token);
    expect(known.decode.expert_ms).toBeCloseTo(factor * assumed.decode.expert_ms);
    const { stdout } = await stellium(["plan", "-m", path, ...rates, "--memory", memory, "--routing", record]);
    expect(stdout).toContain(`: ${(100 * hitRate).toFixed(0)} % of those wanted are in memory, as recorded`);
  });

  it("is refused of a model without experts, before anything is loaded", async () => {
    const wanted = join(folder, "none");
    const { code, stdout, stderr } = await stellium(["generate", "-m", bundled, "-p", "a", "--record-routing", wanted]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("the model has no experts whose use could be recorded");
    expect(existsSync(wanted)).toBe(false);
  });

  it("is refused where it cannot be written, or is of another model", async () => {
    const nowhere = await stellium(["generate", "-m", path, "-p", "a", "--record-routing", join(folder, "no", "file")]);
    expect(nowhere).toMatchObject({ code: 1, stdout: "" });
    expect(nowhere.stderr).toContain("cannot write ");
    const other = await stellium(["plan", "-m", bundled, ...rates, "--routing", record]);
    expect(other).toMatchObject({ code: 2, stdout: "" });
    expect(other.stderr).toMatch(
      /was recorded of another model: that has \d+ experts in each of \d+ layers, this one 0/,
    );
  });
});
