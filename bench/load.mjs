import { parseArgs } from "node:util";
import { LoadRun } from "./load/run.mjs";
import { whole } from "./numbers.mjs";
import { demoModel, startServer } from "./serve/server.mjs";

/**
 * @typedef {object} LoadOptions
 * @property {number} clients At the same time.
 * @property {number} seconds
 * @property {number} seed
 * @property {readonly string[]} [server] More options of the server.
 */

const text = /** @type {const} */ ({ type: "string" });

/**
 * `load`: many clients of a server of the bundled model, some of which leave. Throws where an answer is not what it is
 * alone, a slot stays taken, or memory grows.
 * @param {string[]} args
 */
export async function run(args) {
  const { values } = parseArgs({ args, options: { clients: text, seconds: text, seed: text, devices: text } });
  const { clients = "200", seconds = "300", seed = String(Date.now() % 2 ** 31), devices = "1" } = values;
  const options = { clients: whole(clients), seconds: whole(seconds), seed: whole(seed) };
  const report = await runLoad({ ...options, server: ["--devices", devices] });
  process.stdout.write(`${JSON.stringify({ ...options, ...report }, null, 2)}\n`);
  if (report.rss.growth > 0.05) throw new Error(`memory grew by ${(100 * report.rss.growth).toFixed(1)} %`);
}

/** @param {LoadOptions} options */
export async function runLoad({ server: more = [], ...options }) {
  const fixed = ["--threads", "1", "--parallel", "8", "--ctx-size", "256", "--prefix-cache", "4MB"];
  const server = await startServer(demoModel, [...fixed, ...more]);
  try {
    return await new LoadRun(server.url, options).run();
  } finally {
    await server.stop();
  }
}
