import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { TextModel } from "#stellium/serving/textModel";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
afterAll(() => rmSync(cacheDir, { recursive: true }));

/** Starts four devices. Returns the bytes that the coordinator and the workers have sent until all were ready. */
async function start(): Promise<{ coordinator: number; workers: number; slices: number }> {
  const cluster = { workers: 3, local: true, cacheDir, collective: "exchange" } as const;
  await using model = await TextModel.open(demo, { threads: 1, context: 512, cluster });
  const reports = await model.coordinator.workers();
  const sum = (name: string) => reports.reduce((total, { figures }) => total + figures[name]!, 0);
  const own = model.coordinator.engine.statistics.bytesSent;
  // Plans and slices are with the workers. What else was said may be on its way: pings, and each worker's own report.
  const { sent, received } = model.coordinator.controlTraffic;
  expect(Math.abs(sum("controlBytesReceived") - sent)).toBeLessThan(3000);
  expect(Math.abs(sum("controlBytesSent") - received)).toBeLessThan(3000);
  return { coordinator: sent + own, workers: received + sum("bytesSent"), slices: sum("weightBytes") };
}

it("a second start of four devices sends no slices again", async () => {
  const first = await start();
  expect(first.coordinator).toBeGreaterThan(first.slices);
  const second = await start();
  expect(second.coordinator + second.workers).toBeLessThan(100_000);
});
