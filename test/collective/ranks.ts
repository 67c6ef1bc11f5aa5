import { Worker } from "node:worker_threads";
import type { CipherName } from "#stellium/collective/cipher";
import { openWire } from "#stellium/collective/wire";
import { closeSocket, listenOn } from "#stellium/native/sockets";

/** What a thread or process that plays a rank is given. */
export interface RankData extends RankOptions {
  readonly rank: number;
  readonly size: number;
  readonly ports: readonly number[];
  readonly listener: number;
}

export interface RankOptions {
  readonly cipher: CipherName;
  readonly deadlineMs: number;
  readonly maxPayload: number;
  /** A function of `rank.mjs`. */
  readonly job: string;
  readonly collective?: string;
}

// Once, before threads do so at the same time.
openWire("f32");

export const defaults: Omit<RankOptions, "job"> = { cipher: "aes-256-gcm", deadlineMs: 20_000, maxPayload: 100_000 };

/** Runs a job of `rank.mjs` on `size` ranks, each a thread, and returns what each of them reports. */
export async function runRanks<T>(size: number, options: Partial<RankOptions> & { job: string }): Promise<T[]> {
  const listeners = Array.from({ length: size }, () => listenOn("127.0.0.1"));
  const ports = listeners.map(({ port }) => port);
  try {
    const ranks = listeners.map(({ socket }, rank) =>
      runRank<T>({ ...defaults, ...options, rank, size, ports, listener: socket }),
    );
    return await Promise.all(ranks);
  } finally {
    for (const { socket } of listeners) closeSocket(socket);
  }
}

/** Runs one rank in a thread. */
export function runRank<T>(workerData: RankData): Promise<T> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./rank.mjs", import.meta.url), { workerData });
    worker.on("error", reject);
    worker.on("message", ({ result, failure }: { result: T; failure?: string }) =>
      failure === undefined ? resolve(result) : reject(new Error(failure)),
    );
  });
}
