import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

const directory = join(import.meta.dirname, "oracle");

/** Installs llama.cpp (node-llama-cpp) for comparisons, the first time. It is no part of the product. */
export function installOracle() {
  if (existsSync(join(directory, "node_modules", "node-llama-cpp", "package.json"))) return;
  process.stderr.write("installing node-llama-cpp into bench/oracle ...\n");
  const args = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"];
  const { status, error } = spawnSync("npm", args, {
    cwd: directory,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (status !== 0)
    throw new Error(`npm could not install bench/oracle: ${error?.message ?? `it exited with ${status}`}`);
}
