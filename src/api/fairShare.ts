import { isIPv6 } from "node:net";
import { plainHost } from "../cluster/control/address.ts";

/** One of several that hold something of which there is only so much. */
export interface Holder {
  /** Who it counts for; see `clientGroup`. */
  readonly group: string;
}

/** How many each group holds. */
export function countByGroup(holders: Iterable<Holder>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { group } of holders) counts.set(group, (counts.get(group) ?? 0) + 1);
  return counts;
}

/** The first holder of the group that has the most, so that whoever takes a lot has to give way first. */
export function firstOfLargestGroup<T extends Holder>(holders: readonly T[]): T | undefined {
  const counts = countByGroup(holders);
  const most = Math.max(...counts.values());
  return holders.find(({ group }) => counts.get(group) === most);
}

/**
 * Who an address counts for: an IPv4 address for itself, an IPv6 address for its network of 64 bits, of which one device
 * may have all addresses.
 */
export function clientGroup(address = ""): string {
  const plain = plainHost(address);
  if (!isIPv6(plain)) return plain;
  const [head = "", tail] = plain.replace(/%.*$/, "").split("::");
  const groups = (text: string) => text.split(":").filter(Boolean);
  const [left, right] = [groups(head), groups(tail ?? "")];
  const zeros = new Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  const all = [...left, ...(tail === undefined ? [] : zeros), ...right];
  return all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
