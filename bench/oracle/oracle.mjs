// llama.cpp as a child process, which is asked line by line: to load first, then tasks. `../oracleClient.mjs` has their types.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";
import { answerLines } from "../conversation.mjs";

const run = { greedy, parallel, prefill, decode, tokenize, detokenize, memory };
const greedyNext = { generateNext: { token: true, options: { temperature: 0 } } };

const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  // Without a limit, a context gets exactly the threads it asks for.
  maxThreads: 0,
  logLevel: LlamaLogLevel.error,
});
let loaded;
/** The token that decoding goes on with. */
let last;
await answerLines(async (question) => {
  if (loaded !== undefined) return await run[question.kind](loaded, question);
  const { loadMs, ...subjects } = await load(question);
  loaded = subjects;
  return { llama: describe(), loadMs };
});
process.exit(0);

async function load({ model: modelPath, mmap = true, ...options }) {
  const started = performance.now();
  const model = await llama.loadModel({ modelPath, useMmap: mmap, ignoreMemorySafetyChecks: true });
  const context = await contextFor(model, options);
  const loadMs = performance.now() - started;
  const all = Array.from({ length: context.totalSequences }, () => context.getSequence());
  return { model, sequence: all[0], all, loadMs };
}

function contextFor(model, { threads = 2, contextSize = 512, batchSize, flashAttention = "auto", sequences = 1 }) {
  return model.createContext({
    threads,
    sequences,
    contextSize,
    flashAttention,
    ...(batchSize ? { batchSize } : {}),
    ignoreMemorySafetyChecks: true,
    failedCreationRemedy: false,
  });
}

/** Greedy tokens, one decode each, with the log-probabilities of the best few. */
async function greedy({ sequence }, { tokens, count, top = 5 }) {
  await sequence.clearHistory();
  const filter = { tokens: [], includeTop: top };
  const generateNext = { token: true, logits: { filter }, totalLogitWeight: true, options: { temperature: 0 } };
  const result = { tokens: [], top: [] };
  let input = tokens;
  while (result.tokens.length < count) {
    const outputs = await sequence.controlledEvaluate([...input.slice(0, -1), [input.at(-1), { generateNext }]]);
    const { token, logits, totalLogitWeight } = outputs[input.length - 1].next;
    result.tokens.push(token);
    result.top.push(logProbabilities(logits, totalLogitWeight));
    input = [token];
  }
  return result;
}

function logProbabilities(logits, total) {
  const ranked = [...logits].sort(([, a], [, b]) => b - a);
  return ranked.map(([token, logit]) => [token, Number((logit - ranked[0][1] - Math.log(total)).toFixed(5))]);
}

/** Milliseconds to the first token behind a prompt, as a user of node-llama-cpp gets it. */
async function prefill({ sequence }, { tokens }) {
  await sequence.clearHistory();
  const { tokens: generated, first_ms } = await generateOnce(sequence, tokens, 1);
  last = generated[0];
  return first_ms;
}

/** Milliseconds of each token that follows. */
async function decode({ sequence }, { how, steps }) {
  if (how === "generate") {
    const { tokens, first_ms, token_ms } = await generateOnce(sequence, [last], steps);
    last = tokens.at(-1);
    return [first_ms, ...token_ms];
  }
  const evaluate = how === "step" ? evaluateWhole : evaluateHeadless;
  const times = [];
  for (let step = 0; step < steps; step++) times.push(await clocked(() => evaluate(sequence)));
  return times;
}

async function evaluateWhole(sequence) {
  const [output] = await sequence.controlledEvaluate([[last, greedyNext]]);
  last = output.next.token;
}

async function evaluateHeadless(sequence) {
  await sequence.evaluateWithoutGeneratingNewTokens([last]);
}

async function clocked(action) {
  const started = performance.now();
  await action();
  return performance.now() - started;
}

/** What a user of node-llama-cpp gets: greedy generation, the time of each token. */
async function generateOnce(sequence, tokens, count) {
  const times = [performance.now()];
  const generated = [];
  for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
    times.push(performance.now());
    generated.push(token);
    if (generated.length === count) break;
  }
  const [first_ms, ...token_ms] = times.slice(1).map((at, index) => at - times[index]);
  return { tokens: generated, first_ms, token_ms };
}

/** As many greedy generations at the same time as there are prompts: the sum of their tokens per second behind the first. */
async function parallel({ all }, { prompts, count }) {
  for (const one of all) await one.clearHistory();
  await Promise.all(prompts.map((tokens, i) => generateOnce(all[i], tokens, 2)));
  for (const one of all) await one.clearHistory();
  const results = await Promise.all(prompts.map((tokens, i) => generateOnce(all[i], tokens, count)));
  const rate = ({ token_ms }) => (token_ms.length * 1000) / token_ms.reduce((sum, ms) => sum + ms, 0);
  return results.reduce((sum, result) => sum + rate(result), 0);
}

/** With the beginning-of-sequence token where the model wants one. */
async function tokenize({ model }, { text }) {
  const { bos, shouldPrependBosToken } = model.tokens;
  return [...(shouldPrependBosToken ? [bos] : []), ...model.tokenize(text, true)];
}

async function detokenize({ model }, { tokens }) {
  return model.detokenize(tokens, true);
}

function memory() {
  return process.resourceUsage().maxRSS * 1024;
}

function describe() {
  const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
  const { version } = read("node_modules/node-llama-cpp/package.json");
  return {
    version,
    release: llama.llamaCppRelease.release,
    systemInfo: llama.systemInfo,
    cpu: `${cpus()[0]?.model ?? "unknown"} x${cpus().length}`,
    variant: loadedVariant(),
  };
}

/** Which of ggml's builds for CPUs this process has mapped. */
function loadedVariant() {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`;
  return /libggml-cpu-?([\w.]*)\.so/.exec(readFileSync("/proc/self/maps", "utf8"))?.[1] || "generic";
}
