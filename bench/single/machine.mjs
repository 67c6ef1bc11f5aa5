import { arch, cpus, platform, totalmem } from "node:os";
import { coreCount } from "../lan/cores.mjs";

/** What figures depend on, and nothing that tells whose machine it is. */
export function machine() {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: coreCount(),
    memoryBytes: totalmem(),
    platform: `${platform()}-${arch()}`,
    node: process.version,
  };
}
