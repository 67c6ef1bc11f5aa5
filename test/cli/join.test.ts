import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { protocolVersion } from "#stellium/cluster/control/messages";
import { listenForWorkers } from "#stellium/cluster/control/server";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { outlineOf, type RankPlan } from "#stellium/cluster/rankPlan";
import { JoinToken } from "#stellium/cluster/token";
import { readGguf } from "#stellium/weights/gguf/reader";
import { skipWithoutMulticast } from "../cluster/multicast.ts";
import { freePort, model, start, stellium, until } from "./stellium.ts";

const token = JoinToken.parse("a token of these tests");
const cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
const withoutMulticast = await skipWithoutMulticast();
const children = new Set<ReturnType<typeof start>["child"]>();
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(cacheDir, { recursive: true });
});

function startJoin(port: number | undefined, env: Record<string, string> = {}) {
  const where = port === undefined ? ["--via", "127.0.0.1"] : [`127.0.0.1:${port}`];
  const args = ["join", ...where, "--cache-dir", cacheDir, "--name", "a device"];
  const joining = start(args, { env: { STELLIUM_TOKEN: token.text, ...env } });
  children.add(joining.child);
  return joining;
}

/** Starts a coordinator for one worker, has it write, and returns its tokens. */
async function generate(port: number): Promise<number[]> {
  const cluster = ["--workers", "1", "--listen", `127.0.0.1:${port}`, "--cache-dir", cacheDir];
  const args = [
    "generate",
    "-m",
    model,
    "-p",
    "ROMEO:\n",
    "-n",
    "6",
    "-c",
    "128",
    "--json",
    "--collective",
    "exchange",
    ...cluster,
  ];
  const { code, stdout, stderr } = await stellium(args, { env: { STELLIUM_TOKEN: token.text } });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout).tokens;
}

/** A coordinator that speaks the protocol, in this process. */
function listen(protocol?: number) {
  const register = DeviceRegister.unkept(token);
  return listenForWorkers({ host: "127.0.0.1", register, version: "9.9.9", protocol, onDrop: () => {} });
}

describe("joining is refused in one line that says why", () => {
  it("with another token", async () => {
    await using listener = await listen();
    const { code, stderr } = await startJoin(listener.port, { STELLIUM_TOKEN: "another token than theirs" }).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^stellium: the coordinator at 127\.0\.0\.1:\d+ does not accept this join token\. .+\n$/);
  });

  it("with another version of the protocol", async () => {
    await using listener = await listen(protocolVersion + 1);
    const { code, stderr } = await startJoin(listener.port).ended;
    expect(code).toBe(1);
    const [ours, theirs] = [protocolVersion, protocolVersion + 1];
    expect(stderr).toMatch(`stellium: this device speaks version ${ours} (Stellium `);
    expect(stderr).toMatch(/^[^\n]+ the coordinator at .+ speaks version \d+ \(Stellium 9\.9\.9\)\. .+\n$/);
    expect(stderr).toContain(`speaks version ${theirs} (`);
  });

  /** Lets a device in, and gives it a share of a model, and a slice. Returns what the device says in the end. */
  async function give(slice: string, env: Record<string, string> = {}): Promise<string> {
    await using listener = await listen();
    const joining = startJoin(listener.port, env);
    const { value: worker } = await listener[Symbol.asyncIterator]().next();
    const description = outlineOf(await readGguf(model), "ab".repeat(32));
    const shares: RankPlan["shares"] = { relative: [1, 1], head: "coordinator" };
    const engine: RankPlan["engine"] = { context: 64, batch: 64, kvType: "f16", slots: 1, storedCells: 0 };
    await worker!.channel.send({ type: "welcome", rank: 1, size: 2, session: "ab".repeat(8) });
    await worker!.channel.send({
      type: "plan",
      rank: 1,
      size: 2,
      slice: { model: slice, share: "ab".repeat(8) },
      description,
      shares,
      engine,
      listen: { host: "127.0.0.1", port: 0 },
    });
    const { code, stderr } = await joining.ended;
    expect(code).toBe(1);
    await worker!.channel.close("done");
    return stderr;
  }

  it("with a plan whose slice is of another model", async () => {
    expect(await give("cd".repeat(32))).toMatch(
      /stellium: the coordinator does not keep to the cluster protocol: .+ another \(the hashes differ\)\. .+\n$/,
    );
  });

  it("with a plan whose slice is larger than the cache may be", async () => {
    expect(await give("ab".repeat(32), { STELLIUM_CACHE_SIZE: "1MB" })).toMatch(
      /stellium: the cache has no room for .+: it needs 2\.\d+ MB, and of at most 1 MB .+ 0 MB are in use\. .+\n$/,
    );
  });
});

it("devices of this machine keep no more than --cache-size, either", async () => {
  const folder = join(cacheDir, "small");
  const options = ["-c", "64", "--devices", "2", "--cache-dir", folder, "--cache-size", "1MB"];
  const { code, stderr } = await stellium(["generate", "-m", model, "-p", "a", "-n", "2", ...options]);
  expect([code, stderr]).toEqual([1, expect.stringMatching(/the cache has no room for .+ of at most 1 MB/)]);
  expect(readdirSync(join(folder, "slices"))).toEqual([]);
});

describe("a device that has joined", () => {
  it("joins again when the coordinator has been started anew, and answers the same", async () => {
    const port = await freePort();
    const { outcome, child, ended } = startJoin(port);
    await until(() => /no connection to the coordinator .+; trying again in \d+\.\d s\n/.test(outcome.stderr));
    const first = await generate(port);
    await until(() => /joined as device 2 of 2\n.+trying again in/s.test(outcome.stderr));
    expect(await generate(port)).toEqual(first);
    expect(outcome.stderr.match(/joined as device 2 of 2/g)).toHaveLength(2);
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
  });

  it("finds its coordinator, and again where that listens elsewhere", withoutMulticast, async () => {
    const { outcome, child, ended } = startJoin(undefined);
    const first = await generate(0);
    await until(() => /found it at 127\.0\.0\.1:\d+\n.+looking for the coordinator/s.test(outcome.stderr));
    expect(await generate(0)).toEqual(first);
    const [one, two] = [...outcome.stderr.matchAll(/found it at (.+)/g)].map(([, address]) => address);
    expect(two).not.toBe(one);
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
  });

  it("may have another clock, time zone and language", async () => {
    const port = await freePort();
    const plain = startJoin(port);
    const expected = await generate(port);
    plain.child.kill("SIGINT");
    await plain.ended;
    // Forty years ahead, on all threads of that process.
    const ahead = "const now = Date.now; Date.now = () => now() + 1.3e12;";
    const clock = `--import=data:text/javascript,${encodeURIComponent(ahead)}`;
    const locale = { LANG: "tr_TR.UTF-8", LC_ALL: "tr_TR.UTF-8", TZ: "Pacific/Kiritimati" };
    const skewed = startJoin(port, { NODE_OPTIONS: clock, ...locale });
    expect(await generate(port)).toEqual(expected);
    skewed.child.kill("SIGINT");
    await skewed.ended;
  });
});
