import { randomBytes } from "node:crypto";
import { Engine, type EngineStart } from "#stellium/engine/engine";
import type { LinkSetup } from "#stellium/engine/links/rankLinks";
import type { EngineOptions } from "#stellium/engine/protocol";
import { describe } from "#stellium/model/support";
import { rankDescription } from "#stellium/plan/rankDescription";
import { type HeadPlacement, planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";

/** How ranks are to be linked. */
export type LinkOptions = Partial<Pick<LinkSetup, "wire" | "collective" | "cipher" | "overlap">> & {
  readonly head?: HeadPlacement;
  /** A rank that does not follow until `follow` says so: the others wait for it in their first sum. */
  readonly idle?: number;
};

/** Engines of all ranks of a model, each on a thread of this process, linked over loopback. */
export class Ranks implements AsyncDisposable {
  readonly engines: readonly Engine[];
  /** How following ended, in the order in which ranks began to. */
  readonly followed: Promise<unknown>[] = [];

  private constructor(engines: readonly Engine[]) {
    this.engines = engines;
  }

  get first(): Engine {
    return this.engines[0]!;
  }

  /** @param options - of all ranks, or of each by its number */
  static async start(
    path: string,
    shares: number[],
    options: EngineOptions | ((rank: number) => EngineOptions),
    links: LinkOptions = {},
  ): Promise<Ranks> {
    const whole = describe(await readGguf(path));
    const plan = planShares(whole, shares, { head: links.head ?? "coordinator" });
    const descriptions = shares.map((_, rank) => rankDescription(whole, plan, rank));
    const origin = { kind: "gguf", files: whole.files } as const;
    return await Ranks.of(
      descriptions.map((description) => ({ description, origin })),
      options,
      links,
    );
  }

  /** Ranks whose weights come from wherever is said. @param engine - of another tree, if this one does not know the blocks */
  static async of(
    from: readonly Pick<EngineStart, "description" | "origin">[],
    options: EngineOptions | ((rank: number) => EngineOptions),
    links: LinkOptions = {},
    engine: typeof Engine = Engine,
  ): Promise<Ranks> {
    const optionsOf = typeof options === "function" ? options : () => options;
    const engines = from.map((start, rank) => engine.start({ ...start, options: optionsOf(rank) }));
    const ranks = new Ranks(await Promise.all(engines));
    await ranks.link(links);
    return ranks;
  }

  /** Opens the links, with new keys, and has all ranks but the first one follow. What `ofRank` says is another for each. */
  async link(
    { wire = "f32", collective = "exchange", cipher = "aes-256-gcm", overlap = true, idle }: LinkOptions,
    ofRank: (rank: number) => Partial<LinkSetup> = () => ({}),
  ): Promise<void> {
    const size = this.engines.length;
    const ports = await Promise.all(this.engines.map((engine) => engine.listen("127.0.0.1")));
    const key = Array.from({ length: size * size }, () => randomBytes(32).toString("base64"));
    const peer = (rank: number, other: number) => ({
      rank: other,
      host: "127.0.0.1",
      port: ports[other]!,
      sendKey: key[rank * size + other]!,
      receiveKey: key[other * size + rank]!,
    });
    const others = (rank: number) => this.engines.flatMap((_, other) => (other === rank ? [] : [peer(rank, other)]));
    const shared = { size, cipher, wire, collective, overlap };
    const setup = (rank: number) => ({ ...shared, rank, peers: others(rank), ...ofRank(rank) });
    await Promise.all(this.engines.map((engine, rank) => engine.link(setup(rank))));
    for (let rank = 1; rank < size; rank++) if (rank !== idle) this.follow(rank);
  }

  /** Has a rank take the steps of the first one. */
  follow(rank: number): void {
    this.followed.push(this.engines[rank]!.follow().catch((error: unknown) => error));
  }

  /** Closes the links, and waits until no rank follows any more. Returns how following ended. */
  async unlink(): Promise<unknown[]> {
    for (const engine of this.engines) engine.cutLinks();
    return await Promise.all(this.followed.splice(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unlink();
    await Promise.all(this.engines.map((engine) => engine[Symbol.asyncDispose]()));
  }
}
