import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pullModel, resolveModel } from "#stellium/models/resolveModel";
import { modelFile, sha256 } from "../models/hubFiles.ts";
import { MockHub } from "../models/mockHub.ts";
import { model, start, stellium, until } from "./stellium.ts";

const commit = "c".repeat(40);
const large = modelFile(6e6);
let hub: MockHub;
let directory: string;

beforeEach(async () => {
  hub = await MockHub.start();
  directory = await mkdtemp(join(tmpdir(), "stellium-models-"));
  hub.repositories["user/repo"] = { commit, files: { "m-Q4_K_M.gguf": large } };
});

afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const run = (...args: string[]) => stellium(args, { env: hub.environment(directory) });
const begun = (...args: string[]) => start(args, { env: hub.environment(directory) });
const blobs = () => join(directory, "hub", "models--user--repo", "blobs");
const shown = (path: string) => join(directory, "hub", "models--user--repo", "snapshots", commit, path);

describe("ls and rm", () => {
  const other = modelFile(40_000, 5);

  beforeEach(async () => {
    const files = { "m-Q4_K_M.gguf": large, "m-Q8_0.gguf": other, "deep/n-Q8_0.gguf": large };
    hub.repositories["user/repo"] = { commit, files };
    const environment = hub.environment(directory);
    for (const choice of Object.keys(files)) await pullModel(`user/repo:${choice}`, { environment });
  });

  it("list models by names that lead to them", async () => {
    const { stdout } = await run("list");
    expect(stdout.replaceAll(/\d{4}-\d{2}-\d{2}/g, "DATE")).toBe(
      [
        "user/repo:Q4_K_M            6 MB     of DATE",
        "user/repo:deep/n-Q8_0.gguf  6 MB     of DATE",
        "user/repo:m-Q8_0.gguf       41.1 kB  of DATE",
        `3 models, 12 MB; those of Hugging Face in ${join(directory, "hub")}`,
        "",
      ].join("\n"),
    );
    const { models } = JSON.parse((await run("ls", "--json")).stdout);
    const environment = hub.environment(directory);
    for (const { name, files } of models) {
      expect(await resolveModel(name, { environment, offline: true })).toBe(files[0]);
    }
  });

  it("remove a model, but not what another one needs", async () => {
    const removed = await run("rm", "user/repo:Q4_K_M");
    expect(removed.stdout).toBe("removed user/repo:Q4_K_M, 0 B\n");
    expect(await readdir(blobs())).toContain(sha256(large));
    expect((await run("rm", "user/repo:deep/n-Q8_0.gguf")).stdout).toBe("removed user/repo:deep/n-Q8_0.gguf, 6 MB\n");
    expect(await readdir(blobs())).toEqual([sha256(other)]);
    await writeFile(shown("config.json"), "{}");
    expect((await run("rm", "user/repo", "--json")).stdout).toContain('"user/repo:Q8_0"');
    expect(await readdir(join(directory, "hub", "models--user--repo", "snapshots", commit))).toEqual(["config.json"]);
    expect((await run("ls")).stdout).toMatch(/^no models in /);
  });

  it("remove all of a repository on request alone", async () => {
    const refused = await run("rm", "user/repo");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/^stellium: there are 3 models of user\/repo: user\/repo:Q4_K_M, .*--all\./);
    expect((await run("rm", "user/repo", "--all")).stdout.split("\n").length).toBe(4);
    expect(await readdir(join(directory, "hub"))).toEqual([]);
    expect((await run("rm", "user/repo")).stderr).toMatch(/^stellium: user\/repo is not on this device/);
  });

  it("know models of URLs", async () => {
    const url = `${hub.storeUrl}/user/repo/m-Q8_0.gguf`;
    await run("pull", url);
    expect((await run("ls")).stdout).toContain(`${url}  `);
    expect((await run("rm", url)).stdout).toBe(`removed ${url}, 41.1 kB\n`);
    expect((await run("ls")).stdout).not.toContain(url);
    expect((await run("rm", url)).code).toBe(1);
  });
});

describe("ps", () => {
  it("lists the devices that run, and none that were killed", async () => {
    expect((await run("ps")).stdout).toBe("nothing runs\n");
    const killed = begun("generate", "-m", model, "--ignore-eos", "-n", "-1", "-c", "512", "--devices", "2");
    await until(() => killed.outcome.stdout !== "");
    const { processes } = JSON.parse((await run("ps", "--json")).stdout);
    expect(processes).toMatchObject([
      { pid: killed.child.pid, command: "generate", model, rank: 0, devices: 2, memory_cap_bytes: null },
      { command: "join", rank: 1, devices: 2, address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) },
    ]);
    expect(processes[0].resident_bytes).toBeGreaterThan(1e6);
    expect((await run("ps")).stdout).toMatch(/^PID +COMMAND .*\n\d+ +generate .* 2 +- .*\n\d+ +join +- +2 of 2 +127/);
    killed.child.kill("SIGKILL");
    await killed.ended;
    await untilNothingRuns();
    expect(await readdir(join(directory, "stellium", "processes"))).toEqual([]);
  });
});

/** A local device ends by itself when the process that started it has ended. */
async function untilNothingRuns(): Promise<void> {
  while ((await run("ps")).stdout !== "nothing runs\n");
}
