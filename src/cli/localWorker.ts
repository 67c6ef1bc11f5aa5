import type { JoinState } from "../cluster/control/client.ts";
import type { LocalOrders, LocalReport } from "../cluster/localWorkers.ts";
import type { WorkerState } from "../cluster/worker.ts";
import { StelliumError } from "../errors.ts";
import { endBySignal } from "./endBySignal.ts";
import { uncachedText } from "./uncached.ts";

// A worker process on its coordinator's machine. Its modules load while the coordinator gets ready to be joined; then
// it is told where. It ends with the process that started it.

/** Time to free everything in once the coordinator's process is gone. */
const patienceMs = 2000;

const orphaned = new AbortController();
const invited = new Promise<LocalOrders>((resolve) => process.once("message", resolve));
process.once("disconnect", () => {
  orphaned.abort("its coordinator's process ended");
  setTimeout(() => endBySignal("SIGKILL"), patienceMs).unref();
});
// A terminal interrupts all processes at once; what that means for this one, its coordinator decides.
process.on("SIGINT", () => {});

const { checkDevice, work } = await import("../cluster/worker.ts");
const [{ JoinToken }, { Membership }, { tellOfThisProcess }] = await Promise.all([
  import("../cluster/token.ts"),
  import("../cluster/identity/membership.ts"),
  import("./processes/registry.ts"),
]);

try {
  if (!process.connected) process.exit();
  checkDevice();
  const { token, ...orders } = await invited;
  const [host, { signal }] = ["127.0.0.1", orphaned];
  tellOfThisProcess({ command: "join", address: `${host}:${orders.port}`, memoryCap: orders.memory });
  const membership = Membership.ofToken(JoinToken.parse(token));
  await work({ ...orders, host, local: true, membership, signal, onState: tell });
} catch (error) {
  if (!orphaned.signal.aborted) await fail(error);
}

function tell(state: JoinState | WorkerState): void {
  if (state.state === "uncached") void say({ warning: uncachedText(state.error) });
  if (state.state === "joined") tellOfThisProcess({ rank: state.rank, devices: state.size });
}

/** Tells the coordinator's process why it has to do without this one. */
async function fail(error: unknown): Promise<void> {
  const failed = error instanceof StelliumError ? `${error.message} (${error.code})` : String(error);
  process.exitCode = 1;
  await say({ failed });
  process.disconnect();
}

async function say(report: LocalReport): Promise<void> {
  await new Promise((resolve) => process.send!(report, resolve));
}
