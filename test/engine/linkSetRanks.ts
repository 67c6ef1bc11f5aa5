import { Worker } from "node:worker_threads";
import { planLinks } from "#stellium/cluster/linkPlan";
import type { LinkSet } from "#stellium/engine/links/linkSets";
import type { LinkSetup } from "#stellium/engine/links/rankLinks";
import { closeSocket, listenOn, type Socket } from "#stellium/native/sockets";

/** Opening a set of links, in `deadlineMs` (10,000 if absent), or adding up over it. */
export type Act =
  | { readonly open: LinkSet; readonly deadlineMs?: number; readonly sum?: undefined }
  | { readonly open?: undefined; readonly sum: LinkSet };

/** What the thread of a rank is given. */
export interface RankData {
  readonly listener: Socket;
  readonly setup: LinkSetup;
  readonly acts: readonly Act[];
}

/** Listeners of ranks on this machine, and what each rank is told of the others. */
export class LinkSetRanks implements Disposable {
  readonly listeners: readonly { readonly socket: Socket; readonly port: number }[];
  readonly setups: readonly LinkSetup[];

  constructor(size: number) {
    this.listeners = Array.from({ length: size }, () => listenOn("127.0.0.1"));
    const addresses = this.listeners.map(({ port }) => ({ host: "127.0.0.1", port }));
    this.setups = planLinks(addresses, { wire: "f32", cipher: "aes-256-gcm", collective: "exchange" });
  }

  /** Runs a rank in a thread. Returns what came of each act: `open`, a sum, or the fields of an error. */
  run(rank: number, acts: readonly Act[], setup = this.setups[rank]!): Promise<unknown[]> {
    const workerData: RankData = { listener: this.listeners[rank]!.socket, setup, acts };
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./linkSetRank.mjs", import.meta.url), { workerData });
      worker.on("message", resolve).on("error", reject);
    });
  }

  [Symbol.dispose](): void {
    for (const { socket } of this.listeners) closeSocket(socket);
  }
}
