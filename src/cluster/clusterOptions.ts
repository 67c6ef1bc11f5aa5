import type { WireName } from "../collective/wire.ts";
import type { LinkSetup } from "../engine/links/rankLinks.ts";
import type { HeadPlacement } from "../plan/shares.ts";
import type { LocalWorkers } from "./localWorkers.ts";
import type { JoinToken } from "./token.ts";

/** Which devices are to share a model, and how they talk to each other. */
export interface ClusterOptions {
  /** How many workers there are to be. */
  readonly workers: number;
  /** Whether they are processes on this machine; otherwise they join from elsewhere. */
  readonly local: boolean;
  /** Those processes, where they have been started already; they end with the cluster. */
  readonly processes?: LocalWorkers | undefined;
  /** Where to listen for workers; local ones join over loopback. */
  readonly listen?: { readonly host: string; readonly port: number } | undefined;
  /** If absent, the one that is kept in the cache directory; made at the first start. Local workers get one of their own. */
  readonly token?: JoinToken | undefined;
  /** Relative shares by rank; equal if absent. */
  readonly shares?: readonly number[] | undefined;
  /** `coordinator` if absent. */
  readonly head?: HeadPlacement | undefined;
  /** f16 if absent. */
  readonly wire?: WireName | undefined;
  /** `auto` if absent. */
  readonly collective?: LinkSetup["collective"] | undefined;
  /** Sums travel as they are: for measuring. */
  readonly insecure?: boolean | undefined;
  readonly cacheDir?: string | undefined;
  /** Bytes that the cache may take; see `CacheLimit`. */
  readonly cacheSize?: number | undefined;
  /** How many blocks the window of a local worker holds. */
  readonly window?: number | undefined;
  /** Told where workers can join, and how many have. */
  readonly onJoin?: (state: Entrance) => void;
  /** Told the ids of the connected devices that have keys, each time that changes. */
  readonly onDevices?: ((ids: readonly string[]) => void) | undefined;
}

/** The line that lets a device join, for a shell. */
export function joinCommand({ address, token }: Pick<Entrance, "address" | "token">): string {
  return `stellium join ${address} --token ${shellWord(token.text)}`;
}

/** Text as a shell takes it for one word. */
export function shellWord(text: string): string {
  return /^[\w.:@%+=,/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Where and how devices join. */
export interface Entrance {
  readonly address: string;
  readonly token: JoinToken;
  readonly joined: number;
  readonly wanted: number;
  /** Whether they are processes of this machine. */
  readonly local: boolean;
}
