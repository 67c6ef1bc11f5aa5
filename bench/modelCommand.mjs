import { parseArgs } from "node:util";
import { generateModel, writeHeader } from "./generateModel.mjs";

const text = { type: /** @type {const} */ ("string") };
const options = {
  ...{ shape: text, type: text, out: text, seed: text, layers: text },
  "header-only": { type: /** @type {const} */ ("boolean") },
};

/**
 * `model`: writes a GGUF of random weights and says on stderr how far it is and how fast it was. With `--header-only`,
 * the data stay a hole in the file: enough to plan with.
 * @param {string[]} args
 */
export async function runModel(args) {
  const { values } = parseArgs({ args, options });
  const { shape, type, out, seed = "1", layers } = values;
  if (!shape || !type || !out) throw new Error("model needs --shape NAME --type TYPE --out FILE");
  const started = performance.now();
  const model = { shape, type, path: out, seed: whole(seed), layers: layers === undefined ? undefined : whole(layers) };
  if (values["header-only"]) return void (await writeHeader(model));
  const { notes, fileBytes } = await generateModel({ ...model, onProgress: progress });
  const seconds = (performance.now() - started) / 1000;
  const speed = `${(fileBytes / 1e6 / seconds).toFixed(0)} MB/s`;
  process.stderr.write(`\n${out}: ${fileBytes} bytes in ${seconds.toFixed(1)} s, ${speed}\n`);
  for (const note of notes) process.stderr.write(`  ${note}\n`);
}

/** @param {number} written @param {number} total */
function progress(written, total) {
  process.stderr.write(`\r${(written / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
}

/** @param {string} text */
function whole(text) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`"${text}" is not a whole number above zero`);
  return value;
}
