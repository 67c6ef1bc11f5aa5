import { randomFillSync } from "node:crypto";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { measureDisk } from "#stellium/library/planning/measure";

const directory = mkdtempSync(join(tmpdir(), "stellium-measure-"));
afterAll(() => rmSync(directory, { recursive: true }));

it("measures a disk by what was read in the time it took", async (context) => {
  const path = join(directory, "data");
  const bytes = 128 << 20;
  writeFileSync(path, randomFillSync(new Uint8Array(bytes)), { flush: true });
  const started = performance.now();
  const rate = await measureDisk(path);
  const ms = performance.now() - started;
  // The second half is read, unless that takes half a second.
  if (rate === undefined || ms > 500) return context.skip("this disk takes no direct I/O, or is too slow to tell");
  expect((rate * ms) / 1000).toBeGreaterThanOrEqual(bytes / 2);
});

it("does not take holes, or little, for a fast disk", async () => {
  const path = join(directory, "hole");
  writeFileSync(path, "GGUF");
  expect(await measureDisk(path)).toBeUndefined();
  truncateSync(path, 1 << 30);
  expect(await measureDisk(path)).toBeUndefined();
  expect(await measureDisk(join(directory, "nothing"))).toBeUndefined();
});
