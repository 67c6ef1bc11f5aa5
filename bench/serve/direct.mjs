// Stellium without HTTP, as a child process: `{ model, threads, context }` on the first line of stdin, then on each line
// `{ prompts, tokens }`, for which it writes a line on stdout with the tokens per second of all together.
import { createInterface } from "node:readline";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";

const sampling = { ...defaultSampling, temperature: 0 };
/** @type {TextModel | undefined} */
let model;
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (model === undefined) model = await TextModel.open(request.model, { ...request, parallel: request.streams });
  process.stdout.write(`${JSON.stringify(request.prompts ? await rate(model, request) : "ready")}\n`);
}
await model?.[Symbol.asyncDispose]();

/** @param {TextModel} model @param {{ prompts: number[][], tokens: number }} request */
async function rate(model, { prompts, tokens }) {
  const rates = await Promise.all(prompts.map((prompt) => streamRate(model, prompt, tokens)));
  return rates.reduce((sum, rate) => sum + rate, 0);
}

/** @param {TextModel} model @param {number[]} prompt @param {number} maxTokens */
async function streamRate(model, prompt, maxTokens) {
  /** @type {number[]} */
  const times = [];
  const request = { prompt, maxTokens, sampling, ignoreEos: true };
  for await (const _ of model.generate(request)) times.push(performance.now());
  return ((maxTokens - 1) * 1000) / /** @type {number} */ (times.at(-1) - /** @type {number} */ (times[0]));
}
