import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ClusterOptions } from "#stellium/cluster/clusterOptions";
import { JoinToken } from "#stellium/cluster/token";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";
import { deferred } from "../deferred.ts";
import { kinds } from "../kinds.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const demo = join(root, "models/stellium-shakespeare-5m-q8_0.gguf");
const sampling = { ...defaultSampling, temperature: 0 };
const token = JoinToken.generate();
let cacheDir: string;
const children = new Set<ChildProcess>();

beforeAll(() => {
  cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
});
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(cacheDir, { recursive: true });
});

/** A device that joins at `address`. */
function startWorker(address: string, name: string): ChildProcess {
  const args = [join(root, "dist/cli/main.js"), "join", address, "--threads", "1", "--name", name];
  const env = { ...process.env, STELLIUM_TOKEN: token.text, STELLIUM_CACHE_DIR: cacheDir };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  children.add(child);
  return child;
}

/** Opens a model, the bundled one if no other is named, on a cluster; `started` is called once with the address that workers can join at. */
function open(
  cluster: Partial<ClusterOptions>,
  started?: (address: string) => void,
  parallel = 1,
  path = demo,
): Promise<TextModel> {
  let told = false;
  const onJoin: ClusterOptions["onJoin"] = ({ address }) => {
    if (!told) started?.(address);
    told = true;
  };
  // Links that are measured may choose another collective at each start, which adds up in another order.
  const options = { workers: 1, local: true, token, cacheDir, onJoin, collective: "exchange" as const, ...cluster };
  return TextModel.open(path, { threads: 1, context: 512, parallel, cluster: options });
}

async function write(model: TextModel, count: number, signal?: AbortSignal, onText = () => {}): Promise<string> {
  let text = "";
  const request = { prompt: await model.encodePrompt("ROMEO:\n"), maxTokens: count, sampling, ignoreEos: true };
  for await (const written of model.generate(request, signal)) {
    text += written.text;
    onText();
  }
  return text;
}

describe("a cluster", () => {
  it.each(["coordinator", "sharded"] as const)(
    "of processes on this machine writes what one device writes, and says what each did (head: %s)",
    async (head) => {
      await using alone = await TextModel.open(demo, { threads: 1, context: 512 });
      await using shared = await open({ workers: 2, shares: [2, 1, 1], wire: "f32", head });
      expect(await write(shared, 12)).toBe(await write(alone, 12));
      const reports = await shared.coordinator.workers();
      expect(reports.map(({ rank, share }) => [rank, share.kvHeads.count])).toEqual([
        [1, 2],
        [2, 2],
      ]);
      const [own, each] = head === "sharded" ? [512, 256] : [1024, 0];
      expect(shared.coordinator.description.share.vocabulary.count).toBe(own);
      for (const { figures, share } of reports) {
        expect(share.vocabulary.count).toBe(each);
        expect(figures["collectives"]).toBeGreaterThan(100);
        expect(figures["bytesSent"]).toBeGreaterThan(0);
        expect(figures["computeMs"]).toBeGreaterThan(0);
      }
    },
  );

  it("does not let in who has another token", async () => {
    const refused = new Promise<string>((resolve) => {
      const stopper = new AbortController();
      open({ workers: 1, local: false, listen: { host: "127.0.0.1", port: 0 } }, (at) => {
        const env = { ...process.env, STELLIUM_TOKEN: "another token than theirs" };
        const child = spawn(process.execPath, [join(root, "dist/cli/main.js"), "join", at], { env });
        children.add(child);
        let text = "";
        child.stderr.on("data", (data) => {
          text += data;
        });
        child.once("exit", (code) => {
          resolve(`${code} ${text}`);
          startWorker(at, "with the right one");
        });
      }).then((model) => model[Symbol.asyncDispose](), stopper.abort);
    });
    expect(await refused).toMatch(/^1 stellium: the coordinator at .* does not accept this join token/);
  });
});

describe.each(kinds)("a cluster with %s", (_, made) => {
  let path: string;
  beforeAll(async () => {
    path = await made();
  });

  it.each([
    [1, 0, 0],
    [0, 1, 1],
  ])("has devices that hold nothing of the blocks, in shares of %i, %i and %i, twice", async (...shares) => {
    await using alone = await TextModel.open(path, { threads: 1, context: 512 });
    const expected = await write(alone, 8);
    for (let start = 0; start < 2; start++) {
      await using shared = await open({ workers: 2, shares, wire: "f32" }, undefined, 1, path);
      expect(await write(shared, 8)).toBe(expected);
    }
  });

  it("keeps slices: a second start sends none", async () => {
    const { listSlices } = await import("#stellium/weights/sliceList");
    const { sliceDirectory } = await import("#stellium/weights/sliceDirectory");
    const slices = async () => (await listSlices(sliceDirectory(cacheDir))).map(({ path }) => path).sort();
    {
      await using _ = await open({ workers: 2, shares: [2, 1, 1] }, undefined, 1, path);
    }
    const before = await slices();
    await using again = await open({ workers: 2, shares: [2, 1, 1] }, undefined, 1, path);
    expect(await write(again, 3)).not.toBe("");
    expect(await slices()).toEqual(before);
  });

  it("stops when asked to, and goes on", async () => {
    await using shared = await open({}, undefined, 1, path);
    const stopper = new AbortController();
    const stopped = write(shared, 400, stopper.signal, () => stopper.abort("enough"));
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    expect(await write(shared, 8)).toBe(await write(shared, 8));
  });

  it("names a device that is lost, within 5 s, and goes on when another joins in its place", async () => {
    const workers: ChildProcess[] = [];
    let address = "";
    const listen = { host: "127.0.0.1", port: 0 };
    await using shared = await open(
      { workers: 2, local: false, listen },
      (at) => {
        address = at;
        workers.push(startWorker(at, "first"), startWorker(at, "second"));
      },
      1,
      path,
    );
    const expected = await write(shared, 10);
    const written = deferred<void>();
    const failed = write(shared, 400, undefined, written.resolve).then(
      () => undefined,
      (error: unknown) => ({ error, at: performance.now() }),
    );
    await written.promise;
    const killedAt = performance.now();
    workers[0]!.kill("SIGKILL");
    const failure = await failed;
    expect(failure?.error).toMatchObject({ code: "WORKER_LOST", message: expect.stringContaining("first") });
    expect(failure!.at - killedAt).toBeLessThan(5000);
    startWorker(address, "third");
    expect(await write(shared, 10)).toBe(expected);
  });

  it("fills the place of a device that is lost between two requests, none of which fails", async () => {
    const workers: ChildProcess[] = [];
    let joined = deferred<string>();
    const onJoin: ClusterOptions["onJoin"] = ({ address, joined: there, wanted }) => {
      if (there < wanted) joined.resolve(address);
    };
    const opening = open({ local: false, listen: { host: "127.0.0.1", port: 0 }, onJoin }, undefined, 1, path);
    const address = await joined.promise;
    workers.push(startWorker(address, "first"));
    await using shared = await opening;
    const expected = await write(shared, 10);
    expect(await write(shared, 10)).toBe(expected);
    joined = deferred<string>();
    workers[0]!.kill("SIGKILL");
    // It is missed at once, by nobody's request.
    await joined.promise;
    const waiting = write(shared, 10);
    startWorker(address, "second");
    expect(await waiting).toBe(expected);
  });

  it("that loses a device fails the requests under way, and goes on with those that waited", async () => {
    let address = "";
    let worker: ChildProcess | undefined;
    const started = (at: string) => {
      address = at;
      worker = startWorker(at, "first");
    };
    await using shared = await open({ local: false, listen: { host: "127.0.0.1", port: 0 } }, started, 2, path);
    const expected = await write(shared, 10);
    const outcomes = Promise.allSettled([write(shared, 400), write(shared, 400), write(shared, 10)]);
    while (shared.slots().some(({ state }) => state !== "decode")) await new Promise(setImmediate);
    worker!.kill("SIGKILL");
    const failed = { status: "rejected", reason: { code: "WORKER_LOST" } };
    while (shared.counters.requests.failed < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    startWorker(address, "second");
    expect(await outcomes).toMatchObject([failed, failed, { status: "fulfilled", value: expected }]);
  });
});
