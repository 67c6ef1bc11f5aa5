import { availableParallelism } from "node:os";
import { allowedProcessors } from "#stellium/system/cpuAllowance";

/** Number of processors that this process may use. */
export function coreCount() {
  return allowedProcessors().length || availableParallelism();
}

/**
 * The processor of an emulated device, in turns among those that this process may use, as taskset takes it.
 *
 * @param {number} index
 */
export function coreOf(index) {
  const allowed = allowedProcessors();
  return String(allowed.length === 0 ? index % availableParallelism() : allowed[index % allowed.length]);
}
