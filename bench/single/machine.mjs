import { arch, availableParallelism, cpus, platform, totalmem } from "node:os";

/** What figures depend on, and nothing that tells whose machine it is. */
export function machine() {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    platform: `${platform()}-${arch()}`,
    node: process.version,
  };
}
