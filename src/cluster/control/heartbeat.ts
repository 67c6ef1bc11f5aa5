/** How a connection finds out that its other end is gone. */
export interface HeartbeatTimes {
  /** Between two pings; 1,000 by default. */
  readonly intervalMs: number;
  /** Without a byte from the peer for this long, it is lost; 4,000 by default. */
  readonly lostAfterMs: number;
  /**
   * If the peer takes no whole message or piece of data (1 MiB at most) for this long, it is lost, even if it is heard;
   * 30,000 by default.
   */
  readonly untakenAfterMs?: number;
}

/** The loss is noticed at most half an interval after `lostAfterMs`. */
export const defaultHeartbeat = {
  intervalMs: 1000,
  lostAfterMs: 4000,
  untakenAfterMs: 30_000,
} satisfies HeartbeatTimes;

/** What to do. */
export interface HeartbeatActions {
  readonly ping: () => void;
  readonly lost: (silentSeconds: number) => void;
  /** Whether the peer could be heard at all; silence does not count while we do not listen. */
  readonly listening: () => boolean;
}

/**
 * Pings, and notices silence. It counts its own ticks and not the clock: after this process was stopped or busy for
 * long, the timer is called before what has arrived meanwhile is read, and every peer would seem lost.
 */
export class Heartbeat {
  readonly #timer: NodeJS.Timeout;
  readonly #actions: HeartbeatActions;
  readonly #lostAfterTicks: number;
  readonly #lostAfterMs: number;
  #ticks = 0;
  #silentTicks = 0;

  constructor({ intervalMs, lostAfterMs }: HeartbeatTimes, actions: HeartbeatActions) {
    const tick = intervalMs / 2;
    this.#actions = actions;
    this.#lostAfterMs = lostAfterMs;
    // One more, since the first tick may come right after the last byte.
    this.#lostAfterTicks = Math.ceil(lostAfterMs / tick) + 1;
    this.#timer = setInterval(() => this.#tick(), tick);
  }

  /** Something came from the peer. */
  heard(): void {
    this.#silentTicks = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    this.#ticks++;
    if (this.#ticks % 2 === 1) this.#actions.ping();
    this.#silentTicks = this.#actions.listening() ? this.#silentTicks + 1 : 0;
    if (this.#silentTicks >= this.#lostAfterTicks) this.#actions.lost(this.#lostAfterMs / 1000);
  }
}
