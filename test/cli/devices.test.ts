import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { listenForWorkers } from "#stellium/cluster/control/server";
import { DeviceRecords } from "#stellium/cluster/identity/deviceRecords";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { JoinToken } from "#stellium/cluster/token";
import { freePort, model, start, stellium, until } from "./stellium.ts";

const root = mkdtempSync(join(tmpdir(), "stellium-devices-"));
const children = new Set<ReturnType<typeof start>["child"]>();
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(root, { recursive: true });
});

/** The environment of a machine: its disk. */
const machine = (name: string) => ({ STELLIUM_CACHE_DIR: join(root, name) });

function startOn(name: string, args: readonly string[]) {
  const started = start(args, { env: machine(name) });
  children.add(started.child);
  return started;
}

const joinOn = (name: string, port: number, token: string) =>
  startOn(name, ["join", `127.0.0.1:${port}`, "--token", token, "--name", name]);

async function ask(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await stellium(args, { env: machine("coordinator") });
  expect(code, stderr).toBe(0);
  return stdout.trim();
}

const listed = async () => JSON.parse(await ask("devices", "--json")).devices as { name: string; connected: boolean }[];

describe("devices of a group", () => {
  it("keep their place through restarts and a new token, until one is removed", async () => {
    const port = await freePort();
    const served = ["serve", model, "-c", "64", "--port", "0", "--workers", "1", "--listen", `127.0.0.1:${port}`];
    const coordinator = startOn("coordinator", served);
    await until(() => /--token (\S+)/.test(coordinator.outcome.stderr));
    const token = await ask("token");
    expect(coordinator.outcome.stderr).toContain(`stellium join 127.0.0.1:${port} --token ${token}\n`);
    const first = joinOn("first", port, token);
    await until(() => /\nready\n/.test(first.outcome.stderr));
    expect(await listed()).toEqual([expect.objectContaining({ name: "first", connected: true })]);

    const renewed = await ask("token", "--rotate");
    expect([await ask("token"), renewed === token]).toEqual([renewed, false]);
    expect((await joinOn("second", port, token).ended).stderr).toContain("does not accept this join token");
    const second = joinOn("second", port, renewed);
    await until(() => /waiting for a place\n/.test(second.outcome.stderr));
    expect((await listed()).map(({ name, connected }) => [name, connected])).toEqual([
      ["first", true],
      ["second", true],
    ]);
    expect(first.outcome.stderr).toMatch(/ready\n$/);

    coordinator.child.kill("SIGKILL");
    await until(() => /trying again in/.test(first.outcome.stderr) && /trying again in/.test(second.outcome.stderr));
    expect((await listed()).map(({ connected }) => connected)).toEqual([false, false]);
    first.child.kill("SIGKILL");
    await first.ended;
    second.child.kill("SIGSTOP");
    const restarted = startOn("coordinator", served);
    const again = joinOn("first", port, token);
    await until(() => /\nready\n/.test(again.outcome.stderr));
    second.child.kill("SIGCONT");

    expect(await ask("devices", "rm", "first")).toMatch(
      /^removed first \([0-9a-f]{8}\); the others keep their keys\.\n/,
    );
    const { code, stderr } = await again.ended;
    expect([code, stderr]).toEqual([1, expect.stringContaining("stellium: the coordinator has removed this device. ")]);
    await until(() => /joined as device 2 of 2\n.*ready\n/s.test(second.outcome.stderr));
    expect((await joinOn("first", port, token).ended).stderr).toMatch(/^stellium: the coordinator has removed this/);
    expect((await joinOn("third", port, renewed).ended).stderr).toContain("does not accept this join token");
    expect(await listed()).toEqual([expect.objectContaining({ name: "second", connected: true })]);

    second.child.kill("SIGINT");
    restarted.child.kill("SIGKILL");
    await Promise.all([second.ended, restarted.ended]);
    const register = DeviceRegister.unkept(JoinToken.parse(renewed));
    await using impostor = await listenForWorkers({ host: "127.0.0.1", register, version: "0", onDrop: () => {} });
    const deceived = await joinOn("second", impostor.port, renewed).ended;
    expect([deceived.code, deceived.stderr]).toEqual([1, expect.stringContaining("does not know this device")]);
  });
});

describe("the list of devices", () => {
  it("is empty, and names nothing to remove, where none has been admitted", async () => {
    const env = machine("nobody");
    expect(await stellium(["devices"], { env })).toMatchObject({ code: 0, stdout: "no device has been admitted\n" });
    expect(await stellium(["devices", "rm", "pi"], { env })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^stellium: no device "pi" has been admitted\. /),
    });
    // Devices can be set up before the coordinator is.
    expect((await stellium(["token"], { env })).stdout).toMatch(/^\w{26}\n$/);
  });

  it("distinguishes devices of the same name by their ids", async () => {
    const cacheDir = join(root, "namesakes");
    const register = await DeviceRegister.open({ cacheDir });
    const ids = [(await register.issue())!.device, (await register.issue())!.device];
    const records = new DeviceRecords(cacheDir);
    const seenAs = (id: string, name: string) => records.saw(id, { name, address: "127.0.0.1", at: Date.now() });
    for (const id of ids) await seenAs(id, "pi");
    const ambiguous = await stellium(["devices", "rm", "pi"], { env: machine("namesakes") });
    expect(ambiguous).toMatchObject({ code: 2, stderr: expect.stringContaining("there are 2 devices called") });
    for (const id of ids) expect(ambiguous.stderr).toContain(id);
    // A name that is another device's id does not protect it.
    await seenAs(ids[1]!, ids[0]!);
    const removed = await stellium(["devices", "rm", ids[0]!, "--json"], { env: machine("namesakes") });
    expect(JSON.parse(removed.stdout)).toEqual({ removed: { id: ids[0], name: "pi" } });
    register.refresh();
    expect(ids.map((id) => register.isMember(id))).toEqual([false, true]);
  });
});
