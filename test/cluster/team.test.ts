import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it, vi } from "vitest";
import { type CoordinatorConnection, joinCoordinator } from "#stellium/cluster/control/client";
import type { CoordinatorMessage } from "#stellium/cluster/control/messages";
import { planShared } from "#stellium/cluster/engineOptions";
import { Mailbox, type MessageStream } from "#stellium/cluster/mailbox";
import { Milestones } from "#stellium/cluster/milestones";
import { Team } from "#stellium/cluster/team";
import type { Engine } from "#stellium/engine/engine";
import { describe as describeModel } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { planShares } from "#stellium/plan/shares";
import { ModelSource } from "#stellium/weights/modelSource";
import { SharedReading } from "#stellium/weights/sharedReading";
import { deferred } from "../deferred.ts";
import { eventually, hello, membership, token, version } from "./pair.ts";

const demo = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const source = await ModelSource.open(demo);
const cacheDir = mkdtempSync(join(tmpdir(), "stellium-team-"));
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  rmSync(cacheDir, { recursive: true });
});

/** A device that has its place and says what it is told to. */
class Device {
  readonly #channel: CoordinatorConnection["channel"];
  readonly #messages: Mailbox<CoordinatorMessage>;

  static async join({ entrance }: Team, name: string): Promise<Device> {
    const [host = "", port] = entrance.address.split(":");
    const joining = joinCoordinator({
      ...{ host, port: Number(port), membership, version },
      hello: () => ({ ...hello, name, cache: [] }),
    });
    return new Device((await joining.next()).value.channel);
  }

  private constructor(channel: CoordinatorConnection["channel"]) {
    this.#channel = channel;
    this.#messages = new Mailbox(channel as unknown as MessageStream<CoordinatorMessage>, () => new Error("it left"));
    this.#messages.take("plan").catch(() => {});
  }

  async loads(): Promise<void> {
    await this.#channel.send({ type: "ready", phase: "loaded" });
  }

  async listens(): Promise<void> {
    await this.#channel.send({ type: "ready", phase: "listening", dataPort: 4000 });
  }

  /** Waits until it is told to open its links, and says that they are open. */
  async links(): Promise<void> {
    await this.#messages.take("links");
    await this.#channel.send({ type: "ready", phase: "linked" });
  }

  async leaves(): Promise<void> {
    await this.#channel.close("it has had enough");
  }
}

/** An engine that has its links as soon as it is told to open them. */
function linkingEngine() {
  return { listen: vi.fn(async () => 4000), link: vi.fn(async () => {}), cutLinks: vi.fn() };
}

/** A team of three, of which two have been linked to this device. */
async function linkedTeam(engine = linkingEngine()) {
  const description = describeModel(source.model);
  const own = rankDescription(description, planShares(description, [1, 1, 1]), 0);
  const reading = new SharedReading(await source.files(false), { readers: 3, shared: false });
  const options = { workers: 2, local: false, listen: { host: "127.0.0.1", port: 0 }, token, cacheDir };
  const each = { threads: undefined, memoryOfEach: undefined, signal: undefined };
  const team = await Team.open({ source, reading, description, options, ...each });
  const placed = team.place(planShared(own, { context: 256 }));
  const devices = await Promise.all([Device.join(team, "first"), Device.join(team, "second")]);
  await Promise.all(devices.map((device) => device.loads()));
  await placed;
  const linked = team.link(engine as unknown as Engine);
  await Promise.all(devices.map((device) => device.listens()));
  await Promise.all(devices.map((device) => device.links()));
  const [first, second] = devices as [Device, Device];
  return { team, engine, first, second, linked };
}

describe("a team that has lost a device", () => {
  it("does not wait for others to say again where they listen if the next one is lost, too", async () => {
    const { team, engine, first, second, linked } = await linkedTeam();
    await linked;
    await second.leaves();
    await first.listens();
    const third = await Device.join(team, "third");
    await third.loads();
    await eventually(() => engine.listen.mock.calls.length === 2);
    await third.leaves();
    const fourth = await Device.join(team, "fourth");
    await Promise.all([fourth.loads(), fourth.listens()]);
    await Promise.all([first.links(), fourth.links()]);
    await team.ready();
    const names = team.members.slice(1).map((member) => member?.name);
    expect(names.sort()).toEqual(["first", "fourth"]);
    await team[Symbol.asyncDispose]();
  });

  it("opens links when all devices have loaded, those included that had their places before", async () => {
    const { team, engine, first, second, linked } = await linkedTeam();
    await linked;
    await Promise.all([first.leaves(), second.leaves()]);
    const [slow, gone] = await Promise.all([Device.join(team, "slow"), Device.join(team, "gone")]);
    await gone.leaves();
    const reached = vi.spyOn(Milestones.prototype, "reach");
    const fast = await Device.join(team, "fast");
    await fast.loads();
    await eventually(() => reached.mock.calls.length === 1);
    for (let i = 0; i < 10; i++) await turn();
    expect(engine.listen).toHaveBeenCalledTimes(1);
    await slow.loads();
    await Promise.all([slow, fast].map((device) => device.listens()));
    await Promise.all([slow, fast].map((device) => device.links()));
    await team.ready();
    expect(engine.listen).toHaveBeenCalledTimes(2);
    vi.restoreAllMocks();
    await team[Symbol.asyncDispose]();
  });

  it("notices that one is lost which has linked already, while others still link", async () => {
    const others = deferred<void>();
    const engine = { ...linkingEngine(), link: vi.fn(() => others.promise) };
    const { team, first, linked } = await linkedTeam(engine);
    const failed = expect(linked).rejects.toMatchObject({ code: "WORKER_LOST", values: { device: "first" } });
    await first.leaves();
    await eventually(() => team.members.some((member) => member?.state === "lost"));
    others.resolve();
    await failed;
    await team[Symbol.asyncDispose]();
  });
});
