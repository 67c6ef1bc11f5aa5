import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { collectiveNames } from "#stellium/collective/collective";
import { closeSocket, listenOn } from "#stellium/native/sockets";
import { defaults, type RankData, runRank, runRanks } from "./ranks.ts";

interface Loss {
  readonly code: string;
  readonly message: string;
  readonly values: { readonly rank: number; readonly peer: number };
  readonly ms: number;
  readonly again: string;
}

describe.each(collectiveNames)("%s", (collective) => {
  test("says on every rank which one closed its links", async () => {
    const losses = await runRanks<Loss | undefined>(4, { job: "close", collective });
    losses.forEach((loss, rank) => {
      if (rank === 1) return;
      expect(loss).toMatchObject({ code: "LINK_LOST", values: { rank, peer: 1 } });
      expect(loss!.ms).toBeLessThan(2000);
      expect(loss!.again).toBe(loss!.message);
    });
  });

  test("ends on every rank within the deadline where one stalls", async () => {
    const losses = await runRanks<Loss | undefined>(4, { job: "stall", collective });
    losses.forEach((loss, rank) => {
      if (rank === 1) return;
      expect(loss).toMatchObject({ code: "LINK_LOST", values: { rank } });
      expect(loss!.ms).toBeLessThan(3000);
    });
  });
});

test("a process that is killed is noticed by all others at once, and named", async () => {
  const listeners = [listenOn("127.0.0.1"), listenOn("127.0.0.1")] as const;
  const ports = [...listeners.map(({ port }) => port), 0];
  const data = { ...defaults, job: "untilKilled", size: 3, ports };
  const threads = listeners.map(({ socket }, rank) => runRank<Loss>({ ...data, rank, listener: socket }));
  // The highest rank only dials.
  const killed = rankProcess({ ...data, rank: 2, listener: -1 });
  await once(killed, "message");
  killed.kill("SIGKILL");
  for (const [rank, loss] of (await Promise.all(threads)).entries()) {
    expect(loss).toMatchObject({ code: "LINK_LOST", values: { rank, peer: 2 } });
    expect(loss.ms).toBeLessThan(3000);
  }
  for (const { socket } of listeners) closeSocket(socket);
});

function rankProcess(data: RankData) {
  const script = fileURLToPath(new URL("./rank.mjs", import.meta.url));
  return fork(script, { env: { ...process.env, RANK: JSON.stringify(data) } });
}
