import { broadcast } from "./broadcast.ts";
import type { Group } from "./group.ts";
import type { Link } from "./link.ts";
import { median, timed } from "./timing.ts";
import { type Incoming, transfer } from "./transfer.ts";

/** Bytes and number of the frames that latency is measured by. */
const pingBytes = 64;
const pings = 32;
/** The longest message that one side asks the other for. */
const mostBytes = 4 * 1024 * 1024;

/** The lower rank of a pair, which says what is sent between them; times in milliseconds. */
export interface PairLead {
  readonly partner: number;
  /** Half of the median round trip of a small frame. */
  ping(): number;
  /** From when bytes set out until the partner's answer to them is here. */
  send(bytes: number): number;
  /** From when bytes were asked for until they are here. */
  ask(bytes: number): number;
}

/** Values by rank and rank: rows send, columns receive. */
export type PairTable = readonly (readonly number[])[];

/**
 * Has the lower rank of each pair of ranks find out some values of it, `values` many, in turns: a rank is in one pair at
 * a time, so that pairs that are busy at the same time share no device's link. All ranks call it, and all get what was
 * found, by the lower rank and the higher one. Throws `LINK_LOST`.
 */
export function inPairs(
  group: Group,
  values: number,
  find: (lead: PairLead) => readonly number[],
): (lower: number, higher: number) => readonly number[] {
  const rows = Array.from({ length: group.size }, () => new Float64Array(values * group.size));
  group.run(() => {
    for (const partner of partnersOf(group.rank, group.size)) {
      if (group.rank < partner) rows[group.rank]!.set(leadPair(group, partner, find), values * partner);
      else followPair(group, group.link(partner));
    }
  });
  for (const [rank, row] of rows.entries()) broadcast(group, rank, new Uint8Array(row.buffer));
  return (lower, higher) => [...rows[lower]!.subarray(values * higher, values * (higher + 1))];
}

/**
 * The other ranks, in an order in which everyone's partner has this rank as partner in the same round: the circle
 * method of round-robin tournaments.
 */
export function partnersOf(rank: number, size: number): number[] {
  const seats = size + (size % 2);
  const rounds = Array.from({ length: seats - 1 }, (_, round) => partnerIn(round, rank, seats));
  return rounds.filter((partner) => partner < size);
}

function partnerIn(round: number, rank: number, seats: number): number {
  const fixed = seats - 1;
  // The fixed seat meets whoever would meet itself in this round.
  if (rank === fixed) return (round * (seats / 2)) % fixed;
  const partner = (round - rank + fixed) % fixed;
  return partner === rank ? fixed : partner;
}

/** What the lower rank tells the higher one: to send so many bytes, or to take as many where it is negative. */
const told = { nothingMore: 0, ping: -mostBytes - 1 } as const;

function leadPair(group: Group, partner: number, find: (lead: PairLead) => readonly number[]): readonly number[] {
  const link = group.link(partner);
  const found = find({
    partner,
    ping: () => pingPartner(group, link),
    send: (bytes) => timed(() => sendBulk(group, link, bytes)),
    ask: (bytes) => timed(() => askBulk(group, link, bytes)),
  });
  tell(group, link, told.nothingMore);
  return found;
}

function pingPartner(group: Group, link: Link): number {
  tell(group, link, told.ping);
  const bytes = new Uint8Array(pingBytes);
  const times = Array.from({ length: pings }, () =>
    timed(() => {
      send(group, link, bytes);
      receive(group, link, bytes.length);
    }),
  );
  return median(times) / 2;
}

function sendBulk(group: Group, link: Link, bytes: number): void {
  tell(group, link, -bytes);
  send(group, link, new Uint8Array(bytes));
  receive(group, link, pingBytes);
}

function askBulk(group: Group, link: Link, bytes: number): void {
  tell(group, link, bytes);
  receive(group, link, bytes);
}

/** Does what the lower rank tells it to, until there is nothing more. */
function followPair(group: Group, link: Link): void {
  for (;;) {
    const asked = listen(group, link);
    if (asked === told.nothingMore) return;
    if (asked === told.ping) for (let i = 0; i < pings; i++) takeAndSay(group, link, pingBytes);
    else if (asked > 0) send(group, link, new Uint8Array(Math.min(asked, mostBytes)));
    else takeAndSay(group, link, Math.min(-asked, mostBytes));
  }
}

function takeAndSay(group: Group, link: Link, bytes: number): void {
  receive(group, link, bytes);
  send(group, link, new Uint8Array(pingBytes));
}

function tell(group: Group, link: Link, order: number): void {
  send(group, link, new Uint8Array(Int32Array.of(order).buffer));
}

function listen(group: Group, link: Link): number {
  const bytes = new Uint8Array(4);
  receive(group, link, 4, (part) => () => bytes.set(part));
  return new Int32Array(bytes.buffer)[0]!;
}

function send(group: Group, link: Link, bytes: Uint8Array): void {
  transfer(group, [{ link, bytes }], []);
}

function receive(group: Group, link: Link, bytes: number, taking: Incoming["taking"] = () => () => {}): void {
  transfer(group, [], [{ link, bytes, taking }]);
}
