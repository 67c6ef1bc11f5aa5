import { z } from "zod";
import { parseAddress } from "../cluster/control/address.ts";
import type { JoinState } from "../cluster/control/client.ts";
import { locateCoordinator } from "../cluster/discovery/locate.ts";
import { Membership } from "../cluster/identity/membership.ts";
import { JoinToken } from "../cluster/token.ts";
import { checkDevice, type WorkerState, work } from "../cluster/worker.ts";
import { checkOptions, fields } from "./checkOptions.ts";

/** How this device takes part in a cluster. */
export interface JoinOptions {
  /** The coordinator's token: it admits this device the first time. */
  readonly token: string;
  /** Where the coordinator listens, such as `192.168.1.20:7711`; it is looked for in this network if absent. */
  readonly address?: string | undefined;
  /** What to call this device; its host name if absent. */
  readonly name?: string | undefined;
  /** Threads that compute; one for each physical core if absent. */
  readonly threads?: number | undefined;
  /** Bytes that this process may take in all; what is free, less a margin, if absent. */
  readonly memory?: number | undefined;
  /** Where slices of models and this device's key are kept; see `STELLIUM_CACHE_DIR`. */
  readonly cacheDir?: string | undefined;
  /** Bytes that all of them may take; what was used least recently makes room. Three quarters of what is free if absent. */
  readonly cacheSize?: number | undefined;
  /** Leaves the cluster. */
  readonly signal: AbortSignal;
  /** Told what this device does, each time that changes. */
  readonly onState?: ((state: JoinedState) => void) | undefined;
}

/** What a device does, as it does it. */
export type JoinedState =
  /** It looks for the coordinator in this network. */
  { readonly state: "looking" } | JoinState | Exclude<WorkerState, { readonly state: "planned" }>;

const schema = z.strictObject({
  token: z.string(),
  address: fields.text,
  name: fields.text,
  threads: fields.count(1, 512),
  memory: fields.bytes,
  cacheDir: fields.text,
  cacheSize: fields.bytes,
  signal: z.instanceof(AbortSignal),
  onState: fields.action,
});

/**
 * Has this device take part in a cluster until `signal` says otherwise. It joins again by itself when the coordinator
 * restarts. The first time it is admitted by the token, and gets a key of its own, which it proves from then on. Throws
 * `BAD_USAGE`, `TOKEN_REJECTED`, `DEVICE_UNKNOWN`, `DEVICE_REMOVED`, `VERSION_MISMATCH`, and what makes this device unable
 * to have its share.
 */
export async function join(options: JoinOptions): Promise<void> {
  checkOptions("options", schema, options);
  const { threads, memory, cacheDir, cacheSize, name, signal, onState } = options;
  const token = JoinToken.parse(options.token);
  checkDevice();
  try {
    using membership = Membership.open(token, cacheDir);
    const coordinator = await coordinatorOf(options, membership);
    const tell = (state: JoinState | WorkerState) => state.state !== "planned" && onState?.(state);
    const device = { threads, memory, cacheDir, cacheSize, name };
    await work({ ...coordinator, ...device, membership, signal, onState: tell });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function coordinatorOf({ address, signal, onState }: JoinOptions, membership: Membership) {
  if (address !== undefined) return parseAddress(address);
  const relocate = async () => {
    onState?.({ state: "looking" });
    return await locateCoordinator({ membership, signal });
  };
  return { ...(await relocate()), relocate };
}
