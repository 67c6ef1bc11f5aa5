import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allocatePages } from "#stellium/native/memory";
import { threadScript } from "#stellium/system/threadScript";
import type { BlockMap } from "#stellium/weights/window/blockMap";
import { RingWindow } from "#stellium/weights/window/window";
import { announce, windowCell, windowMemory } from "#stellium/weights/window/windowMemory";

const page = 4096;
const reader = threadScript("reader");
/** Pages of each block: small ones, and one that is read in several pieces. */
const pages = [3, 1, 2500, 2, 7, 1];

let directory: string;
let content: Buffer;
let map: BlockMap;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-ring-"));
  content = randomBytes(page * pages.reduce((sum, count) => sum + count, 0));
  const path = join(directory, "blocks");
  await writeFile(path, content);
  let offset = 0;
  const blocks = pages.map((count) => {
    const bytes = count * page;
    const block = { extents: [{ file: 0, offset, bytes, at: 0 }], room: bytes, tensors: [] };
    offset += bytes;
    return block;
  });
  map = { experts: 0, files: [path], blocks };
});
afterAll(() => rm(directory, { recursive: true }));

/** A window over all blocks with two readers, as the engine would have it. */
class Ring implements AsyncDisposable {
  readonly window: RingWindow;
  readonly #memory = windowMemory(pages.length);
  readonly #room;
  readonly #readers: Worker[];
  #offset = 0;

  constructor(ringPages: number) {
    const blocks = pages.map((_, block) => block);
    const rooms = pages.map((count) => count * page);
    this.#room = allocatePages(ringPages * page);
    Atomics.store(this.#memory.cells, windowCell.readers, 2);
    const ring = { address: this.#room.address, bytes: this.#room.bytes, blocks };
    const workerData = { map, pinned: [], ring, cached: false, memory: this.#memory };
    this.#readers = [0, 1].map(() => new Worker(reader, { workerData }));
    this.window = new RingWindow({
      ...{
        blocks,
        rooms,
        bytes: rooms,
        pinnedBytes: 0,
        ringBytes: ring.bytes,
        memory: this.#memory,
        path: map.files[0]!,
      },
      place: (_, offset) => {
        this.#offset = offset;
      },
      stopped: () => false,
    });
  }

  /** Whether the block that was acquired last is there to the byte. */
  holds(block: number): boolean {
    const { offset, bytes } = map.blocks[block]!.extents[0]!;
    const found = Buffer.from(this.#room.view.buffer, this.#room.view.byteOffset + this.#offset, bytes);
    return found.equals(content.subarray(offset, offset + bytes));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#memory.cells, windowCell.stop, 1);
    announce(this.#memory, windowCell.wake);
    await Promise.all(this.#readers.map((thread) => new Promise((ended) => thread.once("exit", ended))));
    this.#room[Symbol.dispose]();
  }
}

describe("a window", () => {
  it("has every block there to the byte, in whatever order and however often they are asked for", async () => {
    const orders = fc.array(fc.nat({ max: pages.length - 1 }), { minLength: 1, maxLength: 12 });
    const releases = fc.boolean();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(2500, 2503, 2600, 5100),
        fc.array(fc.tuple(orders, releases)),
        async (room, steps) => {
          await using ring = new Ring(room);
          for (const [order, release] of steps) {
            for (const block of order) {
              expect(ring.window.acquire(block)).toBe(true);
              expect(ring.holds(block)).toBe(true);
              if (release) ring.window.release();
            }
          }
          expect(ring.window.filled).toBeGreaterThanOrEqual(0);
          expect(ring.window.filled).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 12, seed: 4 },
    );
  });

  it("reads each block once for every round", async () => {
    await using ring = new Ring(2510);
    for (let round = 0; round < 5; round++) {
      for (const block of pages.keys()) {
        ring.window.acquire(block);
        expect(ring.holds(block)).toBe(true);
        ring.window.release();
      }
    }
    expect(ring.window.bytesRead).toBeGreaterThanOrEqual(5 * content.length);
    expect(ring.window.bytesRead).toBeLessThanOrEqual(6 * content.length);
    expect(ring.window.filled).toBeGreaterThan(0);
    expect(ring.window.filled).toBeLessThanOrEqual(1);
  });
});
