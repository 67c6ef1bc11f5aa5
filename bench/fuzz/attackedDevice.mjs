import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { CacheLimit } from "#stellium/cluster/cacheLimit";

const program = fileURLToPath(new URL("./device.mjs", import.meta.url));

/** Limits of memory and disk for a device under attack. */
export const attackedLimits = { memory: 400e6, cache: 10e6 };

/** A device of its own process, which joins what listens at a port as long as it is not ended. */
export class AttackedDevice {
  #child;
  #cache;
  /** Number of times that it left the cluster, by error code. @type {Record<string, number>} */
  failures = {};
  /** Rejects if it ends by itself. @type {Promise<never>} */
  ended;

  /** @param {number} port @param {import("#stellium/cluster/token").JoinToken} token @param {string} cache folder for slices */
  constructor(port, token, cache) {
    const { memory, cache: cacheBytes } = attackedLimits;
    const env = { ...process.env, STELLIUM_LOG: "silent" };
    this.#cache = cache;
    this.#child = fork(program, [port, token.text, cache, memory, cacheBytes].map(String), { env });
    this.#child.on("message", (/** @type {{ code?: string }} */ { code }) => {
      if (code !== undefined) this.failures[code] = (this.failures[code] ?? 0) + 1;
    });
    this.ended = once(this.#child, "exit").then(([code, signal]) => {
      throw new Error(`the device ended (${signal ?? code})`);
    });
    this.ended.catch(() => {});
  }

  /** The most memory it has had so far, and the bytes of its slices. */
  async used() {
    const { usedBytes } = await new CacheLimit(this.#cache, attackedLimits.cache).use();
    this.#child.send("report");
    for (;;) {
      const [{ peak }] = await Promise.race([once(this.#child, "message"), this.ended]);
      if (peak !== undefined) return { usedBytes, peak: Number(peak) };
    }
  }

  end() {
    this.#child.kill("SIGKILL");
  }
}
