import { formatBytes, formatDuration } from "./format.ts";

/** Where progress is shown. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** What decides how progress is shown. */
export interface ProgressOptions {
  readonly stream?: ProgressStream;
  readonly environment?: NodeJS.ProcessEnv;
  /** Milliseconds on a clock that does not jump. */
  readonly now?: () => number;
}

/** Nothing is shown of what takes less. */
const patienceMs = 300;
const plainIntervalMs = 5000;
const widestBar = 30;
const eraseLine = "\r\u001b[K";

/**
 * Shows how far the reading of bytes is, and how long the rest will take. On a terminal that is one line, redrawn, and removed in the end; elsewhere,
 * and under CI, a line every five seconds. There are no colours.
 */
export class Progress implements Disposable {
  readonly #label: string;
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  readonly #redraws: boolean;
  readonly #started: number;
  #shownAt: number;
  #drawn = false;

  constructor(label: string, options: ProgressOptions = {}) {
    const { stream = process.stderr, environment = process.env, now = () => performance.now() } = options;
    this.#label = label;
    this.#stream = stream;
    this.#now = now;
    this.#redraws = stream.isTTY === true && !environment["CI"] && environment["TERM"] !== "dumb";
    this.#started = now();
    this.#shownAt = this.#started;
  }

  /** Tells how far it is. The rate is that of the bytes that `came` since it was begun; others were there before. */
  update(bytes: number, total: number, came: number = bytes): void {
    const now = this.#now();
    if (this.#redraws ? now - this.#started < patienceMs : now - this.#shownAt < plainIntervalMs) return;
    this.#shownAt = now;
    const rate = came / ((now - this.#started) / 1000);
    if (!this.#redraws) return void this.#stream.write(`${this.#facts(bytes, total, rate).join(", ")}\n`);
    this.#drawn = true;
    this.#stream.write(`${eraseLine}${this.#line(bytes, total, rate)}`);
  }

  /** Removes the line, if there is one. */
  [Symbol.dispose](): void {
    if (this.#drawn) this.#stream.write(eraseLine);
    this.#drawn = false;
  }

  #line(bytes: number, total: number, rate: number): string {
    const [what, ...rest] = this.#facts(bytes, total, rate) as [string, ...string[]];
    // One column stays free: a full line would wrap.
    const columns = (this.#stream.columns || 80) - 1;
    const text = [what, ...rest].join("  ");
    const room = Math.min(widestBar, columns - text.length - 4);
    return room < 5 ? text.slice(0, columns) : [what, bar(bytes / total, room), ...rest].join("  ");
  }

  #facts(bytes: number, total: number, rate: number): string[] {
    const facts = [`${this.#label} ${formatBytes(Math.min(bytes, total))} of ${formatBytes(total)}`];
    if (rate === 0) return facts;
    return [...facts, `${formatBytes(rate)}/s`, `${formatDuration((total - bytes) / rate)} left`];
  }
}

function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, share) * width);
  return `[${"#".repeat(filled)}${".".repeat(width - filled)}]`;
}
