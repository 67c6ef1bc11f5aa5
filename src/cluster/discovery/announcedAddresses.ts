import { type Address, formatAddress } from "../control/address.ts";

/** Senders of announcements that are remembered, and addresses that were tried. Strangers may announce what they like. */
const mostSenders = 256;
const mostTried = 1024;
/** Addresses of one sender that wait to be tried. */
const mostOfSender = 4;
/** An address that did not accept the token is tried again after so many milliseconds. */
const triedForMs = 5000;

/**
 * Addresses that were announced and wait to be tried. The senders take turns, so that one who announces without end keeps
 * nobody else from being tried.
 */
export class AnnouncedAddresses {
  /** By sender, who is next first. */
  readonly #waiting = new Map<string, Address[]>();
  readonly #triedAt = new Map<string, number>();
  readonly #clock: () => number;
  readonly #random: () => number;

  /** @param clock - milliseconds */
  constructor(clock: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#clock = clock;
    this.#random = random;
  }

  add(sender: string, addresses: readonly Address[]): void {
    const known = this.#waiting.get(sender) ?? [];
    const names = new Set(known.map(formatAddress));
    const news = addresses.filter((address) => !names.has(formatAddress(address)) && this.#isDue(address));
    if (news.length === 0) return;
    if (known.length === 0) this.#makeRoom();
    this.#waiting.set(sender, [...known, ...news].slice(0, mostOfSender));
  }

  /** The next address to try, if any; it counts as tried from now on. */
  next(): Address | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [sender, [address, ...others]] = first;
    this.#waiting.delete(sender);
    if (others.length > 0) this.#waiting.set(sender, others);
    // Another sender may have announced the same.
    if (address === undefined || !this.#isDue(address)) return this.next();
    this.#tried(formatAddress(address));
    return address;
  }

  #isDue(address: Address): boolean {
    const at = this.#triedAt.get(formatAddress(address)) ?? Number.NEGATIVE_INFINITY;
    return this.#clock() - at >= triedForMs;
  }

  #tried(address: string): void {
    this.#triedAt.delete(address);
    this.#triedAt.set(address, this.#clock());
    const [oldest] = this.#triedAt.keys();
    if (this.#triedAt.size > mostTried) this.#triedAt.delete(oldest!);
  }

  /** Whoever makes up senders cannot choose who makes way for them. */
  #makeRoom(): void {
    if (this.#waiting.size < mostSenders) return;
    const senders = [...this.#waiting.keys()];
    this.#waiting.delete(senders[Math.floor(this.#random() * senders.length)]!);
  }
}
