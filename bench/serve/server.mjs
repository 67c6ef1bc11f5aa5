import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
/** The bundled model. */
export const demoModel = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));

/**
 * @typedef {object} RunningServer
 * @property {string} url
 * @property {() => Promise<void>} stop Returns when the process has ended. Throws where it ended otherwise than it should.
 */

/**
 * Starts `stellium serve` in a process of its own, on any free port of this machine.
 * @param {string} model
 * @param {readonly string[]} options
 * @param {AbortSignal} [signal] Kills it.
 * @returns {Promise<RunningServer>}
 */
export async function startServer(model, options, signal) {
  signal?.throwIfAborted();
  const env = { ...process.env, STELLIUM_LOG: "error" };
  const args = [program, "serve", model, "--port", "0", ...options];
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const kill = () => void child.kill("SIGKILL");
  signal?.addEventListener("abort", kill);
  process.once("exit", kill);
  let said = "";
  /** @type {Promise<string>} */
  const ended = new Promise((resolve) => {
    child.once("close", (code, ending) => {
      signal?.removeEventListener("abort", kill);
      process.off("exit", kill);
      resolve(code === 0 ? "" : `the server ended with ${code ?? ending}: ${said}`);
    });
  });
  const url = await new Promise((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said = `${said}${text}`.slice(-10_000);
      const ready = /^serving .* on (http\S+)$/m.exec(said)?.[1];
      if (ready !== undefined) resolve(ready);
    });
    void ended.then((fault) => reject(new Error(fault)));
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const fault = await ended;
    if (fault !== "") throw new Error(fault);
  };
  return { url, stop };
}
