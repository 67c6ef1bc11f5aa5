import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, cpSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { joinCoordinator } from "#stellium/cluster/control/client";
import type { WorkerHello } from "#stellium/cluster/control/messages";
import { connectSecurely } from "#stellium/cluster/control/secure";
import { deviceIdentity } from "#stellium/cluster/identity/credential";
import { DeviceRecords, mostRecords } from "#stellium/cluster/identity/deviceRecords";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";
import { skipIf } from "../skip.ts";
import { admit, closing, eventually, hello, register as impostor, listen, token, version } from "./pair.ts";

const host = "127.0.0.1";
const root = mkdtempSync(join(tmpdir(), "stellium-identity-"));
const codeOf = (code: string) => expect.objectContaining({ code });
const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});
afterAll(() => rmSync(root, { recursive: true }));

const folder = () => mkdtempSync(join(root, "cache-"));

/** A coordinator that keeps what it knows in `cacheDir`. */
async function coordinator(cacheDir: string, options: Parameters<typeof listen>[0] = {}) {
  const register = await DeviceRegister.open({ cacheDir, token });
  const listening = await listen({ register, ...options });
  opened.push(() => listening.listener.close());
  return { register, records: new DeviceRecords(cacheDir), port: listening.listener.port, ...listening };
}

function membershipIn(cacheDir: string): Membership {
  const membership = Membership.open(token, cacheDir);
  opened.push(() => membership[Symbol.dispose]());
  return membership;
}

/** A device with its disk in `cacheDir`. */
function device(port: number, membership: Membership) {
  const own: WorkerHello = { ...hello, keepsKey: membership.keepsKey };
  const joining = joinCoordinator({ host, port, membership, version, hello: () => own });
  opened.push(() => joining.return(undefined as never));
  return joining;
}

/** Has a device join and be let in, and leave again. Returns its id. */
async function joinOnce({ port, workers }: Awaited<ReturnType<typeof coordinator>>, cacheDir: string) {
  const membership = membershipIn(cacheDir);
  const joining = device(port, membership);
  const [worker] = await Promise.all([admit(workers), joining.next()]);
  await joining.return(undefined as never);
  await worker.channel.ended;
  membership[Symbol.dispose]();
  return worker.device;
}

describe("a device", () => {
  it("is admitted by the token once, and known by a key of its own from then on, whatever the token is", async () => {
    const [there, here] = [folder(), folder()];
    const first = await coordinator(there);
    const id = await joinOnce(first, here);
    expect(id).toMatch(/^[0-9a-f]{32}$/);
    expect(first.records.list()).toEqual([expect.objectContaining({ id, name: "pi", address: host })]);
    const restarted = await coordinator(there);
    expect(await joinOnce(restarted, here)).toBe(id);
    // A coordinator that was given another token.
    const register = await DeviceRegister.open({ cacheDir: there, token: JoinToken.generate() });
    expect(await joinOnce(await coordinator(there, { register }), here)).toBe(id);
    expect(first.records.ids("devices")).toEqual([id]);
  });

  it("that has been admitted does not join a coordinator that knows the token alone", async () => {
    const here = folder();
    const real = await coordinator(folder());
    const id = await joinOnce(real, here);
    const { listener, drops } = await listen({ register: impostor });
    opened.push(() => listener.close());
    const membership = membershipIn(here);
    const error = await device(listener.port, membership)
      .next()
      .catch((e: unknown) => e);
    membership[Symbol.dispose]();
    expect(error).toEqual(codeOf("DEVICE_UNKNOWN"));
    expect((error as { hint: string }).hint).toContain(join(here, "joined"));
    await eventually(() => drops.length > 0);
    expect(await joinOnce(real, here)).toBe(id);
  });

  it("gets no key if either side cannot keep it", async () => {
    const keeping = await coordinator(folder());
    const joining = device(keeping.port, Membership.ofToken(token));
    expect((await Promise.all([admit(keeping.workers), joining.next()]))[0].device).toBeUndefined();
    expect(keeping.records.ids("devices")).toEqual([]);
    const here = folder();
    const { listener, workers } = await listen({ register: DeviceRegister.unkept(token) });
    opened.push(() => listener.close());
    const [worker] = await Promise.all([admit(workers), device(listener.port, membershipIn(here)).next()]);
    expect(worker.device).toBeUndefined();
    expect(readdirSync(join(here, "joined"))).toEqual([]);
  });

  it("that is removed while it is connected is told so, and remembers it", async () => {
    const here = folder();
    const { records, port, workers } = await coordinator(folder());
    const other = device(port, membershipIn(folder()));
    await Promise.all([admit(workers), other.next()]);
    const joining = device(port, membershipIn(here));
    const [worker, joined] = await Promise.all([admit(workers), joining.next()]);
    await records.remove(worker.device!);
    expect(await joined.value.channel.ended).toMatchObject({ by: "peer", removed: true });
    await expect(joining.next()).rejects.toEqual(codeOf("DEVICE_REMOVED"));
    expect(await worker.channel.ended).toMatchObject({ by: "us", removed: true });
    expect(() => Membership.open(token, here)).toThrow(codeOf("DEVICE_REMOVED"));
    expect(records.list()).toHaveLength(1);
    await expect(device(port, Membership.ofToken(token)).next()).rejects.toEqual(codeOf("TOKEN_REJECTED"));
  });

  it("that is removed while it is away is told so when it comes back", async () => {
    const here = folder();
    const running = await coordinator(folder());
    const id = await joinOnce(running, here);
    await running.records.remove(id!);
    running.register.refresh();
    await expect(device(running.port, membershipIn(here)).next()).rejects.toEqual(codeOf("DEVICE_REMOVED"));
    expect(() => Membership.open(token, here)).toThrow(codeOf("DEVICE_REMOVED"));
    expect(Membership.open(JoinToken.generate(), here).isAdmitted).toBe(false);
  });

  it("whose coordinator has lost what it kept is told what to do", async () => {
    const [there, here] = [folder(), folder()];
    await joinOnce(await coordinator(there), here);
    rmSync(join(there, "coordinator"), { recursive: true });
    const { port } = await coordinator(there);
    const error = await device(port, membershipIn(here))
      .next()
      .catch((e: unknown) => e);
    expect(error).toEqual(codeOf("DEVICE_UNKNOWN"));
  });

  it("and a copy of its disk are not connected at the same time", async () => {
    const heartbeat = { intervalMs: 100, lostAfterMs: 300 };
    const { port, workers } = await coordinator(folder(), { heartbeat });
    const here = folder();
    const [worker] = await Promise.all([admit(workers), device(port, membershipIn(here)).next()]);
    const copy = folder();
    cpSync(here, copy, { recursive: true });
    // The record in the copy names this process, which is none on another machine.
    const [name] = readdirSync(join(copy, "joined", token.fingerprint));
    const file = join(copy, "joined", token.fingerprint, `${name!.slice(0, 32)}.json`);
    cpSync(join(copy, "joined", token.fingerprint, name!), file);
    const states: string[] = [];
    const joining = joinCoordinator({
      ...{ host, port, version, membership: membershipIn(copy), hello: () => hello },
      onState: (state) => states.push(state.state === "waiting" ? state.error.message : state.state),
    });
    opened.push(() => joining.return(undefined as never));
    const joined = joining.next();
    await eventually(() => states.some((state) => /same key is connected already \(pi, from 127.0.0.1\)/.test(state)));
    expect(worker.channel.isOpen).toBe(true);
    await worker.channel.close("it is switched off");
    const [second] = await Promise.all([admit(workers), joined]);
    expect(second.device).toBe(worker.device);
  });

  it("has a key for each process that takes part", async () => {
    const here = folder();
    const { port, workers } = await coordinator(folder());
    const start = async () => {
      const membership = membershipIn(here);
      const [worker] = await Promise.all([admit(workers), device(port, membership).next()]);
      return { membership, id: worker.device, close: () => worker.channel.close("done") };
    };
    const [one, two] = [await start(), await start()];
    expect(one.id).not.toBe(two.id);
    await one.close();
    one.membership[Symbol.dispose]();
    expect((await start()).id).toBe(one.id);
  });
});

describe("a listener", () => {
  it("answers an unknown device as it does one with a wrong key", async () => {
    const running = await coordinator(folder());
    const id = await joinOnce(running, folder());
    const outcomes: (string | undefined)[] = [];
    for (const identity of [deviceIdentity(id!), deviceIdentity("0".repeat(32)), "device:..", "other", "stellium"]) {
      const socket = connectSecurely({ host, port: running.port }, { identity, key: randomBytes(32) });
      const [error] = await once(socket, "error");
      outcomes.push((error as { code: string }).code);
      await closing(socket);
    }
    expect(new Set(outcomes)).toEqual(new Set([outcomes[0]]));
    expect(outcomes[0]).toMatch(/^ERR_SSL_/);
    await eventually(() => running.drops.length === 5);
    expect(new Set(running.drops).size).toBe(1);
  });

  it("resumes no session, by which a removed device could come back", async () => {
    const running = await coordinator(folder());
    const { identity, key } = token.credential;
    const options = { host, port: running.port, checkServerIdentity: () => undefined };
    const first = connectTls({ ...options, pskCallback: () => ({ psk: key, identity }) }).on("error", () => {});
    const [session] = await once(first.resume(), "session");
    first.destroy();
    await closing(first);
    await eventually(() => running.drops.length === 1);
    const second = connectTls({ ...options, session });
    const secured = vi.fn();
    second
      .on("secureConnect", secured)
      .on("data", secured)
      .on("error", () => {});
    await closing(second);
    expect(secured).not.toHaveBeenCalled();
    await eventually(() => running.drops.length === 2);
    expect(running.drops[1]).toMatch(/^no handshake/);
  });
});

describe("what a coordinator keeps", () => {
  it("is for its owner alone", async () => {
    const cacheDir = folder();
    const running = await coordinator(cacheDir);
    await joinOnce(running, folder());
    await running.records.renewToken();
    for (const name of readdirSync(running.records.path, { recursive: true, encoding: "utf8" })) {
      const { mode } = statSync(join(running.records.path, name));
      expect([name, mode & 0o077]).toEqual([name, 0]);
    }
  });

  const asRoot = process.getuid?.() === 0;

  it("belongs to its user when root changes it", skipIf(!asRoot, "only root changes others' files"), async () => {
    const cacheDir = folder();
    await DeviceRegister.open({ cacheDir });
    const records = new DeviceRecords(cacheDir);
    chownSync(records.path, 12_345, 12_345);
    await records.renewToken();
    expect(statSync(records.tokenPath)).toMatchObject({ uid: 12_345, gid: 12_345 });
  });

  it("is the token, which it makes and follows when it is replaced", async () => {
    const cacheDir = folder();
    const made = await DeviceRegister.open({ cacheDir });
    expect((await DeviceRegister.open({ cacheDir })).token.text).toBe(made.token.text);
    const before = made.token.credential.key;
    const renewed = await new DeviceRecords(cacheDir).renewToken();
    made.refresh();
    expect(made.keyFor("stellium")).toEqual(renewed.credential.key);
    expect(made.keyFor("stellium")).not.toEqual(before);
    expect(made.token.text).toBe(renewed.text);
  });

  it("is not taken from a file that others can read", async () => {
    const cacheDir = folder();
    await DeviceRegister.open({ cacheDir });
    chmodSync(new DeviceRecords(cacheDir).tokenPath, 0o644);
    await expect(DeviceRegister.open({ cacheDir })).rejects.toEqual(codeOf("BAD_USAGE"));
  });

  it("stays valid when a file is damaged or the folder cannot be read", async () => {
    const cacheDir = folder();
    const running = await coordinator(cacheDir);
    const id = await joinOnce(running, folder());
    writeFileSync(join(running.records.path, "devices", `${"ab".repeat(16)}.json`), "{");
    running.register.refresh();
    expect(running.register.isMember(id!)).toBe(true);
    rmSync(running.records.path, { recursive: true });
    running.register.refresh();
    expect(running.register.isMember(id!)).toBe(true);
  });

  it("is a bounded number of devices: a further one joins by the token each time", async () => {
    const cacheDir = folder();
    const register = await DeviceRegister.open({ cacheDir, token });
    const { path } = new DeviceRecords(cacheDir);
    const record = JSON.stringify({ key: `${"A".repeat(43)}=`, since: 1, token: token.fingerprint });
    for (let i = 0; i < mostRecords; i++)
      writeFileSync(join(path, "devices", `${i.toString(16).padStart(32, "0")}.json`), record);
    register.refresh();
    const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    expect(await register.issue()).toBeUndefined();
    expect(write.mock.calls.join()).toContain(`${mostRecords} devices have keys`);
    write.mockRestore();
  });

  it("is nothing if nothing can be written: devices then join by the token each time", async () => {
    const cacheDir = join(folder(), "a file");
    writeFileSync(cacheDir, "");
    const register = await DeviceRegister.open({ cacheDir, token });
    expect(await register.issue()).toBeUndefined();
    const membership = membershipIn(cacheDir);
    expect([membership.keepsKey, membership.isAdmitted]).toEqual([false, false]);
    expect(membership.credential).toEqual(token.credential);
  });
});

describe("what a device keeps", () => {
  const kept = async () => {
    const here = folder();
    const membership = membershipIn(here);
    await membership.keep({ device: "ab".repeat(16), key: `${"A".repeat(43)}=` });
    return { here, membership, path: join(here, "joined", token.fingerprint) };
  };

  it("is for its owner alone, and for one process at a time", async () => {
    const { here, membership, path } = await kept();
    for (const at of [path, ...readdirSync(path).map((name) => join(path, name))])
      expect(statSync(at).mode & 0o077).toBe(0);
    expect(membershipIn(here).isAdmitted).toBe(false);
    membership[Symbol.dispose]();
    expect(membershipIn(here).credential).toEqual(membership.credential);
  });

  it("is taken over from a process that was killed", async () => {
    const { here, membership, path } = await kept();
    membership[Symbol.dispose]();
    const name = "ab".repeat(16);
    cpSync(join(path, `${name}.json`), join(path, `${name}.${process.pid}-1.json`));
    rmSync(join(path, `${name}.json`));
    expect(membershipIn(here).isAdmitted).toBe(process.platform === "linux");
  });

  it("does not count as nothing when it is damaged: the token is not used in its place", async () => {
    const { here, membership, path } = await kept();
    membership[Symbol.dispose]();
    writeFileSync(join(path, `${"ab".repeat(16)}.json`), "");
    expect(() => Membership.open(token, here)).toThrow(codeOf("FILE_UNREADABLE"));
  });
});
