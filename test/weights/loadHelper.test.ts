import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGgml } from "#stellium/native/ggml";
import { allocatePages, type NativeMemory } from "#stellium/native/memory";
import { type LoadFiles, type LoadTask, loadCounter } from "#stellium/weights/loader";
import { loadBeside } from "#stellium/weights/loadHelper";

const bytes = Uint8Array.from({ length: 600_000 }, (_, at) => (at * 31 + (at >> 8)) % 256);
const taskBytes = 50_000;

describe("a thread that helps to load", () => {
  let folder: string;
  let path: string;
  let target: NativeMemory;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
    path = join(folder, "weights");
    writeFileSync(path, bytes);
    openGgml();
    target = allocatePages(bytes.length);
  });

  afterAll(() => {
    target[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });

  function files(): LoadFiles {
    return { paths: [path], cached: true };
  }

  function tasks(total: number): LoadTask[] {
    return Array.from({ length: total / taskBytes }, (_, at) => {
      const offset = at * taskBytes;
      return { file: 0, offset, bytes: taskBytes, address: target.address + BigInt(offset), buffer: 0n };
    });
  }

  it.each([1, 3])("shares tasks with others: %i threads", async (count) => {
    target.view.fill(0);
    const counters = newCounters();
    await Promise.all(Array.from({ length: count }, () => loadBeside(files(), tasks(bytes.length), counters)));
    expect(Buffer.compare(target.view, bytes)).toBe(0);
    expect(counters[loadCounter.nextTask]).toBe(bytes.length / taskBytes + count);
  });

  it("says by its code what it cannot read, and stops the others", async () => {
    const counters = newCounters();
    const unreadable = { code: "FILE_UNREADABLE", message: expect.stringContaining("it ends at byte 600000") };
    await expect(loadBeside(files(), tasks(2 * bytes.length), counters)).rejects.toMatchObject(unreadable);
    expect(counters[loadCounter.stop]).toBe(1);
  });
});

function newCounters(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(loadCounter.length * Int32Array.BYTES_PER_ELEMENT));
}
