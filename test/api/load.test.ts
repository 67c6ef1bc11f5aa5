import { expect, it } from "vitest";
import { runLoad } from "../../bench/load.mjs";

it.each([1, 2])("many clients that ask and leave get the answers they get alone (devices: %s)", async (devices) => {
  const server = ["--devices", String(devices), "--queue", "30", "--memory", "400MB"];
  const report = await runLoad({ clients: 50, seconds: 4, seed: 7, server });
  expect(report.answered).toBeGreaterThan(20);
  expect(report.left).toBeGreaterThan(0);
  expect(report.refused).toBeGreaterThan(0);
  expect(report.rss.most).toBeLessThan(300e6);
});
