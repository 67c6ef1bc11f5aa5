import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import type { WorkerConnection } from "#stellium/cluster/control/server";
import { rankKept, type Seat, Seating } from "#stellium/cluster/seating";
import { JoinToken } from "#stellium/cluster/token";
import { TextModel } from "#stellium/serving/textModel";
import { listSlices } from "#stellium/weights/sliceList";

const root = fileURLToPath(new URL("../..", import.meta.url));
const token = JoinToken.generate();
const directory = mkdtempSync(join(tmpdir(), "stellium-seating-"));
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

/** A device with a disk of its own. */
function startDevice(name: string, address: string): ChildProcess {
  const args = [join(root, "dist/cli/main.js"), "join", address, "--threads", "1", "--name", name];
  const env = { ...process.env, STELLIUM_TOKEN: token.text, STELLIUM_CACHE_DIR: join(directory, name) };
  const child = spawn(process.execPath, args, { env, stdio: "ignore" });
  children.add(child);
  return child;
}

/** What a device has on its disk. */
async function slicesOf(name: string): Promise<string[]> {
  const slices = await listSlices(join(directory, name, "slices"));
  return slices.map(({ path }) => path);
}

/** Has devices join one after the other. Returns how many bytes they were sent. */
async function start(names: readonly string[]): Promise<number> {
  const devices: ChildProcess[] = [];
  const cluster = {
    ...{ workers: names.length, local: false, token, collective: "star" as const },
    ...{ cacheDir: join(directory, "coordinator"), listen: { host: "127.0.0.1", port: 0 }, shares: [1, 2, 1] },
    onJoin: ({ address, joined }: { address: string; joined: number }) => {
      const name = names[joined];
      if (name !== undefined && devices.length === joined) devices.push(startDevice(name, address));
    },
  };
  const model = join(root, "models/stellium-shakespeare-5m-q8_0.gguf");
  try {
    await using shared = await TextModel.open(model, { threads: 1, context: 256, cluster });
    return shared.coordinator.controlTraffic.sent;
  } finally {
    for (const device of devices) {
      device.kill("SIGKILL");
      await once(device, "close");
    }
  }
}

describe("devices that join", () => {
  it("get the ranks whose slices they have, in whichever order they come", async () => {
    expect(await start(["left", "right"])).toBeGreaterThan(1e6);
    expect(await start(["right", "left"])).toBeLessThan(100_000);
    expect([await slicesOf("left"), await slicesOf("right")].flat()).toHaveLength(2);
  });

  it("leave those to them, where they come later than one that has none", async () => {
    const before = await slicesOf("left");
    expect(await start(["new", "left"])).toBeGreaterThan(100_000);
    expect(await slicesOf("left")).toEqual(before);
    expect(await start(["left", "new"])).toBeLessThan(100_000);
  });
});

describe("a device that waits for a rank", () => {
  it("gets none if it is gone when all others are there", async () => {
    const arriving = (name: string, cache: string[]) => ({ hello: { name, cache }, channel: { isOpen: true } });
    const [gone, kept, last] = [arriving("gone", []), arriving("kept", ["model-1"]), arriving("last", [])];
    async function* arrivals() {
      yield gone;
      gone.channel.isOpen = false;
      yield* [kept, last];
    }
    const seating = new Seating(arrivals() as unknown as AsyncIterable<WorkerConnection, void>, undefined);
    const free = new Map([1, 2].map((rank) => [rank, `model-${rank}`]));
    const seats: Seat[] = [];
    for await (const seat of seating.fill(
      () => free,
      () => {},
    )) {
      free.delete(seat[0]);
      seats.push(seat);
    }
    expect(seats).toEqual([
      [1, kept],
      [2, last],
    ]);
  });
});

describe("a rank for a device", () => {
  const free = new Map([1, 2, 3].map((rank) => [rank, `model-${rank}`]));

  it("is the first free one whose slice it has of this model", () => {
    expect(rankKept(["model-3", "model-2"], free)).toBe(2);
    expect(rankKept(["other-1", "model-3"], free)).toBe(3);
    expect(rankKept(["other-1"], free)).toBeUndefined();
    expect(rankKept([], free)).toBeUndefined();
  });

  it("is its former one if it has that slice, too", () => {
    expect(rankKept(["model-2", "model-3"], free, 3)).toBe(3);
    expect(rankKept(["model-2", "model-3"], free, 1)).toBe(2);
    expect(rankKept(["model-2", "model-3"], free, 7)).toBe(2);
  });
});
