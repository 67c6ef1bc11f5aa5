import { parseAddress } from "../cluster/control/address.ts";
import type { JoinState } from "../cluster/control/client.ts";
import { type WorkerState, work } from "../cluster/worker.ts";
import { StelliumError } from "../errors.ts";
import type { Values } from "./arguments/option.ts";
import { tokenOf } from "./clusterOptions.ts";
import type { joinOptions } from "./commands.ts";
import type { Interruption } from "./interruption.ts";
import { tellOfThisProcess } from "./processes/registry.ts";
import { Progress } from "./progress.ts";

/** Has this device take part in a cluster until it is interrupted, or until the process that started it has ended. */
export async function join(values: Values<typeof joinOptions>, { signal }: Interruption): Promise<void> {
  const { address, threads, cacheDir, name } = values;
  if (address === undefined) throw badUsage("say where to join: stellium join HOST:PORT --token TOKEN");
  const token = await tokenOf(values);
  if (token === undefined) throw badUsage("the token is missing: give it by --token, --token-file or STELLIUM_TOKEN");
  const orphaned = new AbortController();
  if (process.connected) process.once("disconnect", () => orphaned.abort("its parent process ended"));
  using progress = new Progress("receiving");
  const onState = (state: JoinState | WorkerState) => tell(state, address, progress);
  const stop = AbortSignal.any([signal, orphaned.signal]);
  try {
    await work({ ...parseAddress(address), token, threads, cacheDir, name, signal: stop, onState });
  } catch (error) {
    if (!stop.aborted) throw error;
  }
}

function tell(state: JoinState | WorkerState, address: string, progress: Progress): void {
  // What local workers do is told by the process that started them.
  const quiet = process.connected === true;
  if (state.state === "joined") tellOfThisProcess({ address, rank: state.rank, devices: state.size });
  if (state.state === "receiving") progress.update(state.bytes, state.total);
  else if (!quiet) process.stderr.write(sentence(state));
}

function sentence(state: Exclude<JoinState | WorkerState, { state: "receiving" }>): string {
  switch (state.state) {
    case "connecting":
      return "";
    case "connected":
      return "connected; waiting for a place\n";
    case "joined":
      return `joined as device ${state.rank + 1} of ${state.size}\n`;
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

function badUsage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}
