// Stellium without HTTP, as a child process: it is asked `{ model, threads, context, streams }` first, then
// `{ prompts, tokens }`, to which it answers the tokens per second of all together.
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";
import { answerLines } from "../conversation.mjs";

const sampling = { ...defaultSampling, temperature: 0 };
/** @type {TextModel | undefined} */
let model;
await answerLines(async (question) => {
  if (model !== undefined) return await rate(model, question);
  model = await TextModel.open(question.model, { ...question, parallel: question.streams });
  return undefined;
});
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
  return ((maxTokens - 1) * 1000) / ((times.at(-1) ?? 0) - (times[0] ?? 0));
}
