import { once } from "node:events";
import { parseArgs } from "node:util";
import { generateModel, writeHeader } from "./generateModel.mjs";
import { serveModel } from "./model/rangeServer.mjs";
import { whole } from "./numbers.mjs";

const text = { type: /** @type {const} */ ("string") };
const options = {
  ...{ shape: text, type: text, out: text, serve: text, seed: text, layers: text },
  "header-only": { type: /** @type {const} */ ("boolean") },
};

/**
 * `model`: writes a GGUF of random weights and says on stderr how far it is and how fast it was. With `--header-only`,
 * the data stay a hole in the file: enough to plan with. With `--serve PORT` nothing is written: its bytes are computed
 * for whoever reads the URL, until the process is told to end.
 * @param {string[]} args
 */
export async function runModel(args) {
  const { values } = parseArgs({ args, options });
  const { shape, type, out, serve, seed = "1", layers } = values;
  if (!shape || !type || !(out || serve)) throw new Error("model needs --shape NAME --type TYPE and --out or --serve");
  const model = { shape, type, seed: whole(seed), layers: layers === undefined ? undefined : whole(layers) };
  if (serve) return await serveUntilTold(model, whole(serve));
  const path = /** @type {string} */ (out);
  if (values["header-only"]) return void (await writeHeader({ ...model, path }));
  await write({ ...model, path });
}

/** @param {import("./generateModel.mjs").ModelOptions & { path: string }} model */
async function write(model) {
  const started = performance.now();
  const { notes, fileBytes } = await generateModel({ ...model, onProgress: progress });
  const seconds = (performance.now() - started) / 1000;
  const speed = `${(fileBytes / 1e6 / seconds).toFixed(0)} MB/s`;
  process.stderr.write(`\n${model.path}: ${fileBytes} bytes in ${seconds.toFixed(1)} s, ${speed}\n`);
  for (const note of notes) process.stderr.write(`  ${note}\n`);
}

/** @param {import("./generateModel.mjs").ModelOptions} model @param {number} port */
async function serveUntilTold(model, port) {
  const server = await serveModel({ ...model, port });
  process.stderr.write(`${server.url}: ${server.fileBytes} bytes; Ctrl-C ends it\n`);
  await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
  await server.close();
}

/** @param {number} written @param {number} total */
function progress(written, total) {
  process.stderr.write(`\r${(written / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
}
