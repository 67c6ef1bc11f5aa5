import { isIPv4 } from "node:net";
import { type Address, formatAddress, parseAddress } from "../cluster/control/address.ts";
import type { JoinState } from "../cluster/control/client.ts";
import { type LocateOptions, locateCoordinator } from "../cluster/discovery/locate.ts";
import { Membership } from "../cluster/identity/membership.ts";
import { checkDevice, type WorkerOptions, type WorkerState, work } from "../cluster/worker.ts";
import { badUsage } from "../errors.ts";
import type { Values } from "./arguments/option.ts";
import { tokenOf } from "./clusterOptions.ts";
import type { joinOptions } from "./commandOptions.ts";
import type { Interruption } from "./interruption.ts";
import { tellPlan } from "./planReport.ts";
import { tellOfThisProcess } from "./processes/registry.ts";
import { Progress } from "./progress.ts";
import { uncachedText } from "./uncached.ts";

const noticeAfterMs = 5000;

/** Has this device take part in a cluster until it is interrupted, or until the process that started it has ended. */
export async function join(values: Values<typeof joinOptions>, { signal }: Interruption): Promise<void> {
  const { threads, cacheDir, cacheSize, name, memory, window } = values;
  const token = await tokenOf(values);
  if (token === undefined) throw badUsage("the token is missing: give it by --token, --token-file or STELLIUM_TOKEN");
  checkDevice();
  using membership = Membership.open(token, cacheDir);
  const orphaned = new AbortController();
  if (process.connected) process.once("disconnect", () => orphaned.abort("its parent process ended"));
  using progress = new Progress("receiving");
  const onState = (state: JoinState | WorkerState) => tell(state, progress);
  const stop = AbortSignal.any([signal, orphaned.signal]);
  try {
    const coordinator = await coordinatorOf(values, membership, stop);
    tellOfThisProcess({ address: formatAddress(coordinator), memoryCap: memory });
    const device = { threads, cacheDir, cacheSize, name, memory, window };
    await work({ ...coordinator, ...device, membership, signal: stop, onState });
  } catch (error) {
    if (!stop.aborted) throw error;
  }
}

/** Where the coordinator is said to be, or where it is found, now and after it was lost. */
async function coordinatorOf(
  { address, via }: Values<typeof joinOptions>,
  membership: Membership,
  signal: AbortSignal,
): Promise<Pick<WorkerOptions, "host" | "port" | "relocate">> {
  if (address !== undefined) return parseAddress(address);
  if (via !== undefined && !isIPv4(via)) throw badUsage(`--via must be an IPv4 address, not ${JSON.stringify(via)}`);
  const relocate = () => locate({ membership, via, signal });
  return { ...(await relocate()), relocate };
}

async function locate(options: LocateOptions): Promise<Address> {
  const say = (text: string) => process.stderr.write(`${text}\n`);
  say("looking for the coordinator");
  const otherwise = "where multicast does not pass (guest Wi-Fi, containers, other subnets), give HOST:PORT";
  const { membership } = options;
  const sought = membership.isAdmitted ? "that has admitted this device" : "with this token";
  const anew = membership.isAdmitted ? `; if it was set up anew, delete ${membership.path} and join again` : "";
  const notice = setTimeout(() => say(`none ${sought} has been found yet; ${otherwise}${anew}`), noticeAfterMs);
  try {
    const onTrouble = (reason: string) => say(`cannot look for the coordinator here (${reason}): give HOST:PORT`);
    const address = await locateCoordinator({ ...options, onTrouble });
    say(`found it at ${formatAddress(address)}`);
    return address;
  } finally {
    clearTimeout(notice);
  }
}

function tell(state: JoinState | WorkerState, progress: Progress): void {
  // What local workers do is told by the process that started them.
  const quiet = process.connected === true;
  if (state.state === "joined") tellOfThisProcess({ rank: state.rank, devices: state.size });
  if (state.state === "receiving") progress.update(state.bytes, state.total);
  else if (quiet) return;
  else if (state.state === "planned") tellPlan(state.memory, state.cap, state.threads);
  else process.stderr.write(sentence(state));
}

function sentence(state: Exclude<JoinState | WorkerState, { state: "receiving" | "planned" }>): string {
  switch (state.state) {
    case "connecting":
      return "";
    case "connected":
      return "connected; waiting for a place\n";
    case "joined":
      return `joined as device ${state.rank + 1} of ${state.size}\n`;
    case "uncached":
      return `${uncachedText(state.error)}\n`;
    case "loading":
      return "loading\n";
    case "ready":
      return "ready\n";
    case "waiting":
      return `${state.error.message}; trying again in ${(state.delayMs / 1000).toFixed(1)} s\n`;
    default:
      return state satisfies never;
  }
}
