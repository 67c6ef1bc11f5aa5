import type { Member } from "../member.ts";
import type { ReadyCluster, StatusBoard } from "./board.ts";
import { type Figures, RankSamples, SpeedSamples } from "./samples.ts";
import type { ClusterStatus } from "./schema.ts";
import { type ServedWork, snapshot } from "./snapshot.ts";

/** What the part that has the requests counts; all only grow. */
export interface WorkCounters {
  readonly generatedTokens: number;
  readonly promptTokens: number;
  readonly steps: number;
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
}

/** What a feed is made of. */
export interface StatusFeedParts {
  readonly version: string;
  readonly board: StatusBoard;
  /** Undefined while the model loads. */
  readonly work: () => (ServedWork & { readonly counters: WorkCounters }) | undefined;
}

/** How often devices are asked what they did, while somebody looks. */
const intervalMs = 1000;
/** A device that does not answer for so long is not waited for. */
const patienceMs = 300;
/** Changes that follow on each other are told at once. */
const settleMs = 50;

type Listener = (status: ClusterStatus) => void;

/** Tells what the cluster does, as it happens and every second. Asks nobody anything while nobody listens. */
export class StatusFeed {
  readonly #parts: StatusFeedParts;
  readonly #listeners = new Set<Listener>();
  readonly #samples = new Map<number, RankSamples>();
  readonly #speed = new SpeedSamples();
  /** Workers that have not answered yet. */
  readonly #asked = new WeakSet<Member>();
  #stop: (() => void) | undefined;
  #settling: NodeJS.Timeout | undefined;

  constructor(parts: StatusFeedParts) {
    this.#parts = parts;
  }

  /** What there is to see now. */
  async current(): Promise<ClusterStatus> {
    await this.#ask();
    return this.#snapshot();
  }

  /** Calls `listener` now, at changes and every second, until the returned function is called. */
  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    this.#stop ??= this.#start();
    listener(this.#snapshot());
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      this.#stop?.();
      this.#stop = undefined;
    };
  }

  #start(): () => void {
    const tick = () => void this.#ask().then(() => this.#tell());
    const timer = setInterval(tick, intervalMs);
    const unwatch = this.#parts.board.watch(() => this.#settle());
    tick();
    return () => {
      clearInterval(timer);
      clearTimeout(this.#settling);
      this.#settling = undefined;
      unwatch();
    };
  }

  #settle(): void {
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      this.#tell();
    }, settleMs);
  }

  #tell(): void {
    if (this.#listeners.size === 0) return;
    const status = this.#snapshot();
    for (const listener of this.#listeners) listener(status);
  }

  #snapshot(): ClusterStatus {
    const { version, board, work } = this.#parts;
    return snapshot({ version, board, samples: this.#samples, speed: this.#speed.speed, work: work() });
  }

  /** Asks every device, and waits for those that answer soon. */
  async #ask(): Promise<void> {
    const { planned, running } = this.#parts.board;
    this.#takeSpeed();
    if (running === undefined) return;
    this.#take(0, running, ownFigures(running), running.engine.profile);
    const workers = planned?.team?.members ?? [];
    const answers = workers.map((member) => (member === undefined ? undefined : this.#askWorker(member)));
    await Promise.race([Promise.all(answers), pause(patienceMs)]);
  }

  /** Only those that take steps expect to be asked. One that is being lost says nothing, which others notice. */
  async #askWorker(member: Member): Promise<void> {
    if (member.state !== "ready") this.#samples.delete(member.rank);
    if (member.state !== "ready" || this.#asked.has(member)) return;
    this.#asked.add(member);
    try {
      const [figures, profile] = await Promise.all([member.statistics(), member.profile()]);
      this.#take(member.rank, member, figures, profile);
    } catch {
      return;
    } finally {
      this.#asked.delete(member);
    }
  }

  #take(rank: number, of: unknown, figures: Figures, profile: ArrayLike<number>): void {
    const known = this.#samples.get(rank);
    const samples = known !== undefined && known.of === of ? known : new RankSamples(of);
    this.#samples.set(rank, samples);
    samples.take(figures, profile, performance.now());
  }

  #takeSpeed(): void {
    const counters = this.#parts.work()?.counters;
    if (counters === undefined) return;
    const { generatedTokens, promptTokens, steps, prefillSeconds, decodeSeconds } = counters;
    const seconds = prefillSeconds + decodeSeconds;
    this.#speed.take({ generatedTokens, promptTokens, steps, seconds }, performance.now());
  }
}

/** As a worker tells them. */
function ownFigures({ engine, kvBytes, capBytes }: ReadyCluster): Figures {
  return {
    ...engine.statistics,
    ...engine.stepFigures,
    threads: engine.options.threads,
    kvBytes,
    ...(capBytes !== undefined && { memoryCapBytes: capBytes }),
    rssBytes: process.memoryUsage.rss(),
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
