import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { LinkSetup } from "../engine/links/rankLinks.ts";
import { cacheDirectory } from "../weights/sliceDirectory.ts";

/** How the links of a cluster are to be; the same for all. */
export type LinkStyle = Pick<LinkSetup, "wire" | "cipher" | "collective">;

/** Where a rank listens for links. */
export interface LinkAddress {
  readonly host: string;
  readonly port: number;
}

/** Where rank 0 keeps what it learned of networks, in a cache directory. */
export function tuningDirectory(cache = cacheDirectory()): string {
  return join(cache, "links");
}

/** Plans the links between all ranks, with new keys for each direction of each link. Each rank learns its own only. */
export function planLinks(addresses: readonly LinkAddress[], style: LinkStyle): LinkSetup[] {
  const size = addresses.length;
  const keys = addresses.map(() => addresses.map(() => randomBytes(32).toString("base64")));
  return addresses.map((_, rank) => ({
    rank,
    size,
    ...style,
    peers: addresses.flatMap((address, other) => {
      if (other === rank) return [];
      return [{ rank: other, ...address, sendKey: keys[rank]![other]!, receiveKey: keys[other]![rank]! }];
    }),
  }));
}
