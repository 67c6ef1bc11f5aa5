import { log } from "../log.ts";
import { type Throttling, throttling } from "../system/cpuAllowance.ts";
import { quotaText, type ThreadChoice } from "./threads.ts";

/** Reading the counts takes some 0.1 ms. */
const intervalMs = 5000;
/** Fewer periods, of mostly 100 ms, say nothing. */
const leastPeriods = 20;
/** Shares of the periods that are worth a warning. More threads than the quota has cores always use it up. */
const worthWarning = { fitting: 0.4, roundedUp: 0.9 };
/** A share that was told is told again when it has grown by this factor. */
const growth = 1.5;

/** Warns when this process's control groups use up their CPU quota while it computes. Watches nothing where there is no quota. */
export class ThrottleWatch implements Disposable {
  readonly #choice: ThreadChoice;
  readonly #counts: () => readonly Throttling[];
  readonly #warn: (message: string) => void;
  readonly #timer: NodeJS.Timeout | undefined;
  #before: readonly Throttling[];
  #told = 0;

  constructor(choice: ThreadChoice, counts = () => throttling() as readonly Throttling[], warn = warnByLog) {
    this.#choice = choice;
    this.#counts = counts;
    this.#warn = warn;
    this.#before = counts();
    if (this.#before.length > 0) this.#timer = setInterval(() => this.check(), intervalMs).unref();
  }

  /** Looks at the periods since the last look, unless they are too few. */
  check(): void {
    const counts = this.#counts();
    const spans = counts.map(({ periods, throttled }, level) => ({
      periods: periods - (this.#before[level]?.periods ?? 0),
      throttled: throttled - (this.#before[level]?.throttled ?? 0),
    }));
    if (!spans.some(({ periods }) => periods >= leastPeriods)) return;
    this.#before = counts;
    const share = Math.max(
      ...spans.map(({ periods, throttled }) => (periods >= leastPeriods ? throttled / periods : 0)),
    );
    if (share < this.#worthWarning || share < this.#told * growth) return;
    this.#told = share;
    this.#warn(throttleText(share, this.#choice));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    if (this.#before.length > 0) this.check();
  }

  get #worthWarning(): number {
    const { threads, from, quota = 0 } = this.#choice;
    return from === "quota" && quota >= 1 && threads > quota ? worthWarning.roundedUp : worthWarning.fitting;
  }
}

/** What happened, and what would help. */
function throttleText(share: number, { threads, quota = 0, processes }: ThreadChoice): string {
  const each = processes > 1 ? ` in each of ${processes} processes` : "";
  const computing = `${threads} ${threads === 1 ? "thread computes" : "threads compute"}${each}`;
  const help =
    threads * processes > Math.max(1, quota) ? "fewer threads or a larger quota help" : "a larger quota helps";
  const quotaIs = `the CPU quota is ${quotaText(quota)} cores, and ${computing}`;
  return `throttled in ${Math.round(share * 100)} % of periods: ${quotaIs}; ${help}`;
}

function warnByLog(message: string): void {
  log("warn", message);
}
