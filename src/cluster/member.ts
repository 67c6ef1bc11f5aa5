import type { LinkSetup } from "../engine/rankLinks.ts";
import { reasonOf, StelliumError } from "../errors.ts";
import type { RankTrace } from "../trace/events.ts";
import type { ByteSource } from "../weights/byteSource.ts";
import type { TensorSlice } from "../weights/slice.ts";
import type { WorkerMessage } from "./control/messages.ts";
import type { WorkerConnection } from "./control/server.ts";
import { Mailbox } from "./mailbox.ts";
import type { RankPlan } from "./rankPlan.ts";
import { sendSlice } from "./sliceTransfer.ts";
import { clockAhead, receiveTrace, type TracePeer } from "./traceTransfer.ts";

/** What a worker needs to be given its place. */
export interface Place {
  readonly size: number;
  readonly session: string;
  readonly plan: RankPlan;
  /** Identifies the slice: in hex. */
  readonly share: string;
  /** The model's files, and the parts of tensors in each block of the slice. */
  readonly sources: readonly ByteSource[];
  readonly blocks: readonly (readonly TensorSlice[])[];
}

/** A worker that has its place in the cluster, as the coordinator sees it. */
export class Member {
  readonly rank: number;
  readonly name: string;
  readonly connection: WorkerConnection;
  /** Rejects when the worker fails or is lost. */
  readonly lost: Promise<never>;
  /** Resolves when its channel has ended. */
  readonly gone: Promise<unknown>;
  readonly #mailbox: Mailbox<WorkerMessage>;

  /** Gives a worker its place. `loaded` tells when it has its slice in memory. */
  static async place(connection: WorkerConnection, place: Place): Promise<Member> {
    const { size, session, plan } = place;
    const { rank, shares, engine, model } = plan;
    const member = new Member(connection, rank);
    await connection.channel.send({ type: "welcome", rank, size, session });
    const slice = { model: model.hash, share: place.share };
    const listen = { host: connection.remoteAddress, port: 0 };
    await connection.channel.send({ type: "plan", rank, size, slice, description: model, shares, engine, listen });
    member.#serveSlice(place).catch((error: unknown) => connection.channel.close(String(error)));
    return member;
  }

  private constructor(connection: WorkerConnection, rank: number) {
    const messages = connection.channel as unknown as AsyncIterable<WorkerMessage>;
    this.connection = connection;
    this.rank = rank;
    this.name = connection.hello.name;
    this.#mailbox = new Mailbox(messages, () => this.#gone("it left"));
    this.gone = connection.channel.ended;
    this.lost = this.#failure();
    this.lost.catch(() => {});
  }

  /** Resolves when its slice is in memory. */
  async loaded(): Promise<void> {
    await this.#phase("loaded");
  }

  /** Where it listens for links: again after each time that links were lost. */
  async listening(): Promise<{ host: string; port: number }> {
    const { dataPort: port } = (await this.#phase("listening")) as { dataPort: number };
    return { host: this.connection.remoteAddress, port };
  }

  /** Has it open its links. */
  async link(setup: LinkSetup): Promise<void> {
    const peers = setup.peers.map((peer) => ({ ...peer }));
    await this.connection.channel.send({ type: "links", ...setup, peers });
  }

  /** Resolves when its links are open. */
  async linked(): Promise<void> {
    await this.#phase("linked");
  }

  /** What it has counted. */
  async statistics(): Promise<Record<string, number>> {
    await this.connection.channel.send({ type: "stats-request" });
    return (await this.#mailbox.take("stats")).figures;
  }

  /** What it has recorded; nothing, and why, where it does not answer. */
  async trace(): Promise<RankTrace> {
    const peer: TracePeer = {
      send: (message) => this.connection.channel.send(message),
      take: (type) => this.#mailbox.take(type),
    };
    const own = { rank: this.rank, name: this.name };
    try {
      const aheadBy = await clockAhead(peer);
      return { ...own, aheadBy, ...(await receiveTrace(peer)) };
    } catch (error) {
      return { ...own, aheadBy: 0, events: [], dropped: 0, missing: reasonOf(error) };
    }
  }

  async #phase(phase: string) {
    for (;;) {
      const message = await Promise.race([this.#mailbox.take("ready"), this.lost]);
      if (message.phase === phase) return message;
    }
  }

  async #serveSlice({ sources, blocks }: Place): Promise<void> {
    for (;;) {
      const request = await this.#mailbox.take("slice-request").catch(() => undefined);
      if (request === undefined) return;
      await sendSlice(this.connection.channel, sources, blocks, request.blocks);
    }
  }

  async #failure(): Promise<never> {
    const { code, message } = await this.#mailbox.take("failed");
    throw this.#gone(`${message} (${code})`);
  }

  #gone(reason: string): StelliumError {
    return new StelliumError("WORKER_LOST", { device: this.name, reason });
  }
}
