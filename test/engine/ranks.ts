import { randomBytes } from "node:crypto";
import { describe } from "#stellium/engine/architectures/support";
import { Engine, type EngineStart } from "#stellium/engine/engine";
import type { EngineOptions } from "#stellium/engine/protocol";
import type { LinkSetup } from "#stellium/engine/rankLinks";
import { rankDescription } from "#stellium/plan/rankDescription";
import { type HeadPlacement, planShares } from "#stellium/plan/shares";
import { readGguf } from "#stellium/weights/gguf/reader";

/** How ranks are to be linked. */
export type LinkOptions = Partial<Pick<LinkSetup, "wire" | "collective" | "cipher">> & { head?: HeadPlacement };

/** Engines of all ranks of a model, each on a thread of this process, linked over loopback. */
export class Ranks implements AsyncDisposable {
  readonly engines: readonly Engine[];
  /** How following ended, by rank; rank 0 does not follow. */
  readonly followed: Promise<unknown>[] = [];

  private constructor(engines: readonly Engine[]) {
    this.engines = engines;
  }

  get first(): Engine {
    return this.engines[0]!;
  }

  static async start(path: string, shares: number[], options: EngineOptions, links: LinkOptions = {}): Promise<Ranks> {
    const whole = await describe(await readGguf(path));
    const plan = planShares(whole, shares, { head: links.head ?? "coordinator" });
    const descriptions = shares.map((_, rank) => rankDescription(whole, plan, rank));
    const origin = { kind: "gguf", files: whole.files } as const;
    return await Ranks.of(
      descriptions.map((description) => ({ description, origin })),
      options,
      links,
    );
  }

  /** Ranks whose weights come from wherever is said. */
  static async of(
    from: readonly Pick<EngineStart, "description" | "origin">[],
    options: EngineOptions,
    links: LinkOptions = {},
  ): Promise<Ranks> {
    const ranks = new Ranks(await Promise.all(from.map((start) => Engine.start({ ...start, options }))));
    await ranks.link(links);
    return ranks;
  }

  /** Opens the links, with new keys, and has all ranks but the first one follow. */
  async link({ wire = "f32", collective = "exchange", cipher = "aes-256-gcm" }: LinkOptions): Promise<void> {
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
    const setup = (rank: number) => ({ rank, size, peers: others(rank), cipher, wire, collective });
    await Promise.all(this.engines.map((engine, rank) => engine.link(setup(rank))));
    this.followed.splice(0);
    for (const engine of this.engines.slice(1)) this.followed.push(engine.follow().catch((error: unknown) => error));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const engine of this.engines) engine.cutLinks();
    await Promise.all(this.followed);
    await Promise.all(this.engines.map((engine) => engine[Symbol.asyncDispose]()));
  }
}
