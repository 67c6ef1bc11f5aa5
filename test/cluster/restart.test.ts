import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { describe } from "#stellium/model/support";
import { weightBytes } from "#stellium/plan/memory";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { TextModel } from "#stellium/serving/textModel";
import { readGguf } from "#stellium/weights/gguf/reader";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(cacheDir, { recursive: true }));

/** Bytes of the workers' parts as they are sent. In memory they may take more: AMX has 38 for 34 of Q8_0. */
async function plainBytes(workers: number): Promise<number> {
  const whole = describe(await readGguf(demo));
  const plan = planShares(whole, new Array<number>(workers + 1).fill(1));
  const ranks = Array.from({ length: workers }, (_, i) => rankDescription(whole, plan, i + 1));
  return ranks.reduce((sum, rank) => sum + weightBytes(rank), 0);
}

/** Starts four devices. Returns the bytes that the coordinator and the workers have sent until all were ready. */
async function start(
  collective: "auto" | "exchange",
): Promise<{ coordinator: number; workers: number; slices: number }> {
  const cluster = { workers: 3, local: true, cacheDir, collective };
  await using model = await TextModel.open(demo, { threads: 1, context: 512, cluster });
  const reports = await model.coordinator.workers();
  const sum = (name: string) => reports.reduce((total, { figures }) => total + figures[name]!, 0);
  const { bytesSent, openingBytes } = model.coordinator.engine.statistics;
  // Plans and slices are with the workers. What else was said may be on its way: pings, and each worker's own report.
  const { sent, received } = model.coordinator.controlTraffic;
  expect(Math.abs(sum("controlBytesReceived") - sent)).toBeLessThan(6000);
  expect(Math.abs(sum("controlBytesSent") - received)).toBeLessThan(6000);
  const links = sum("bytesSent") + sum("openingBytes");
  return {
    coordinator: sent + bytesSent + openingBytes,
    workers: received + links,
    slices: await plainBytes(reports.length),
  };
}

it("a second start of four devices sends no slices again", async () => {
  const first = await start("exchange");
  expect(first.coordinator).toBeGreaterThan(first.slices);
  const second = await start("exchange");
  expect(second.coordinator + second.workers).toBeLessThan(100_000);
});

it("a later start of four devices that knows its links again sends less than 1 MB, measuring included", async () => {
  const first = await start("auto");
  expect(first.coordinator + first.workers).toBeGreaterThan(2e6);
  // The links of a busy machine do not look the same each time.
  let sent = Number.POSITIVE_INFINITY;
  for (let attempts = 0; attempts < 8 && sent > 1e6; attempts++) {
    const { coordinator, workers } = await start("auto");
    sent = coordinator + workers;
  }
  expect(sent).toBeLessThan(1e6);
});
