import { describe, expect, it } from "vitest";
import { Mending } from "#stellium/cluster/mending";
import { StelliumError } from "#stellium/errors";
import { deferred } from "../deferred.ts";

const loss = new StelliumError("WORKER_LOST", { device: "pi", reason: "no power" });
const linkLost = () => Promise.reject(new StelliumError("LINK_LOST", { rank: 0, peer: 1, reason: "reset" }));

/** Ranks that are filled when they are told to be. */
function openMending() {
  let mends = 0;
  let filled = deferred<void>();
  const mending = new Mending(async () => {
    mends++;
    await filled.promise;
    filled = deferred<void>();
  });
  const guard = <T>(step: () => Promise<T>, signal?: AbortSignal) => mending.guard(step, async () => loss, signal);
  return {
    mending,
    guard,
    mends: () => mends,
    fill: () => filled.resolve(),
    fail: (error: Error) => filled.reject(error),
  };
}

describe("a rank that is lost", () => {
  it("in a step fails that step, and the next one waits until it is filled", async () => {
    const { mending, guard, fill } = openMending();
    await expect(guard(linkLost)).rejects.toBe(loss);
    expect(mending.underWay).toBe(true);
    let taken = false;
    const next = guard(async () => {
      taken = true;
    });
    await new Promise(setImmediate);
    expect(taken).toBe(false);
    fill();
    await next;
    expect([taken, mending.underWay]).toEqual([true, false]);
    expect(await mending.ready()).toBe(true);
  });

  it("between steps is filled at once, and told once to who asks", async () => {
    const { mending, guard, fill, mends } = openMending();
    mending.lost(loss);
    mending.lost(loss);
    expect([mending.underWay, mends()]).toEqual([true, 1]);
    fill();
    expect([await mending.ready(), await mending.ready()]).toEqual([false, true]);
    expect(await guard(async () => 5)).toBe(5);
  });

  it("between steps fails the next one where nobody asked, before it is filled", async () => {
    const { mending, guard, fill } = openMending();
    mending.lost(loss);
    await expect(guard(async () => 5)).rejects.toBe(loss);
    expect(mending.underWay).toBe(true);
    fill();
    expect(await guard(async () => 5)).toBe(5);
  });

  it("while a step is under way is left to that step", async () => {
    const { mending, guard, mends } = openMending();
    const step = deferred<number>();
    const taken = guard(() => step.promise);
    await new Promise(setImmediate);
    mending.lost(loss);
    expect(mends()).toBe(0);
    step.resolve(5);
    expect(await taken).toBe(5);
  });

  it("is not waited for by who is stopped", async () => {
    const { mending, guard } = openMending();
    mending.lost(loss);
    const stopped = AbortSignal.abort("enough");
    await expect(mending.ready(stopped)).rejects.toMatchObject({ code: "ABORTED" });
    await expect(guard(async () => 5)).rejects.toBe(loss);
    await expect(guard(async () => 5, stopped)).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("and cannot be filled fails every step, not those who ask", async () => {
    const { mending, guard, fail } = openMending();
    mending.lost(loss);
    fail(new Error("its process ended"));
    expect(await mending.ready()).toBe(false);
    for (let i = 0; i < 2; i++) await expect(guard(async () => 5)).rejects.toThrow("its process ended");
  });
});
