import { stepFigure } from "../../engine/stepProfile.ts";
import type { CountedTimes } from "./limits.ts";

/** What a rank has counted so far, by name; see `statistic`. */
export type Figures = Readonly<Record<string, number>>;

/** Bytes per second. */
export interface TrafficRates {
  readonly sent: number;
  readonly received: number;
  readonly disk: number;
}

/** Expert cache figures of the last samples; see `clusterStatus`. */
export interface ExpertRates {
  readonly hitRate: number | null;
  readonly bytesPerToken: number | null;
}

interface Sample {
  /** Milliseconds, by `performance.now`. */
  readonly at: number;
  readonly figures: Figures;
}

/** What one device tells of itself from time to time: what it did in between. */
export class RankSamples {
  /** The device; another one in its place starts from nothing. */
  readonly of: unknown;
  #last: Sample | undefined;
  #profile: ArrayLike<number> = [];
  #times: Omit<CountedTimes, "rank"> | undefined;
  #rates: TrafficRates = { sent: 0, received: 0, disk: 0 };
  #experts: ExpertRates = { hitRate: null, bytesPerToken: null };

  constructor(of: unknown) {
    this.of = of;
  }

  get figures(): Figures | undefined {
    return this.#last?.figures;
  }

  /** Of the last steps that were seen, where there were any. */
  get times(): Omit<CountedTimes, "rank"> | undefined {
    return this.#times;
  }

  get rates(): TrafficRates {
    return this.#rates;
  }

  /** From the last interval in which experts were used. */
  get experts(): ExpertRates {
    return this.#experts;
  }

  get profile(): ArrayLike<number> {
    return this.#profile;
  }

  take(figures: Figures, profile: ArrayLike<number>, at: number): void {
    const before = this.#last;
    this.#last = { at, figures };
    this.#profile = profile;
    if (before === undefined || at <= before.at) return;
    const since = (name: string) => Math.max(0, (figures[name] ?? 0) - (before.figures[name] ?? 0));
    const perSecond = (name: string) => (since(name) * 1000) / (at - before.at);
    this.#rates = { sent: perSecond("bytesSent"), received: perSecond("bytesReceived"), disk: perSecond("diskBytes") };
    // A step may take longer than the time between two samples.
    if (since("steps") > 0) this.#times = timesOf(since);
    this.#experts = expertRates(since, this.#experts);
  }
}

function timesOf(since: (name: string) => number): Omit<CountedTimes, "rank"> {
  return {
    steps: since("steps"),
    computeMs: since(stepFigure("compute")),
    diskMs: since(stepFigure("disk")),
    wireMs: since(stepFigure("wire")),
    cipherMs: since(stepFigure("cipher")),
    waitMs: since(stepFigure("wait")),
  };
}

function expertRates(since: (name: string) => number, before: ExpertRates): ExpertRates {
  const [hits, misses, tokens] = [since("expertHits"), since("expertMisses"), since("decodedTokens")];
  return {
    hitRate: hits + misses > 0 ? hits / (hits + misses) : before.hitRate,
    bytesPerToken: tokens > 0 ? since("decodedExpertBytes") / tokens : before.bytesPerToken,
  };
}

/** Sums that only grow. */
interface Totals {
  readonly generatedTokens: number;
  readonly promptTokens: number;
  readonly steps: number;
  /** Spent in steps. */
  readonly seconds: number;
}

/** Rates are taken over so many milliseconds: a slow cluster writes less than a token a second. */
const windowMs = 5000;

/** How fast tokens come, and prompts go. */
export class SpeedSamples {
  #samples: (Totals & { readonly at: number })[] = [];

  take(totals: Totals, at: number): void {
    this.#samples = [...this.#samples.filter((sample) => sample.at >= at - windowMs), { ...totals, at }];
  }

  get speed(): { tokensPerSecond: number; promptTokensPerSecond: number; stepMs: number | null } {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.at === first.at) {
      return { tokensPerSecond: 0, promptTokensPerSecond: 0, stepMs: null };
    }
    const per = (of: "generatedTokens" | "promptTokens") => ((last[of] - first[of]) * 1000) / (last.at - first.at);
    const steps = last.steps - first.steps;
    const stepMs = steps > 0 ? ((last.seconds - first.seconds) * 1000) / steps : null;
    return { tokensPerSecond: per("generatedTokens"), promptTokensPerSecond: per("promptTokens"), stepMs };
  }
}
