// llama.cpp as a child process: one JSON request on stdin, one JSON reply on stdout. `../oracleClient.mjs` has their types.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { json } from "node:stream/consumers";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const run = { greedy, time, generate, parallel, tokenize, detokenize };

const request = await json(process.stdin);
const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  progressLogs: false,
  // Without a limit, a context gets exactly the threads it asks for.
  maxThreads: 0,
  logLevel: LlamaLogLevel.error,
});
const reply = await answer(request);
process.stdout.write(`${JSON.stringify(reply)}\n`, () => process.exit(0));

async function answer({ model: modelPath, tasks, mmap = true, ...options }) {
  const started = performance.now();
  const model = await llama.loadModel({ modelPath, useMmap: mmap, ignoreMemorySafetyChecks: true });
  const context = await contextFor(model, options);
  const loadMs = performance.now() - started;
  const all = Array.from({ length: context.totalSequences }, () => context.getSequence());
  const [sequence] = all;
  const results = [];
  for (const task of tasks) {
    for (const one of all) await one.clearHistory();
    results.push(await run[task.kind]({ model, context, sequence, all }, task));
  }
  return { llama: describe(), loadMs, peakRssBytes: process.resourceUsage().maxRSS * 1024, results };
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

/**
 * Speed of the evaluation alone: a prompt, then single tokens (the prompt's own, over again), first without the output head,
 * which llama.cpp skips where nobody asks for logits, then with the head and a greedy choice.
 */
async function time({ sequence }, { tokens, steps, repeat = 1 }) {
  const result = { prefill_ms: [], headless_ms: [], step_ms: [] };
  const generateNext = { token: true, options: { temperature: 0 } };
  for (let turn = 0; turn < repeat; turn++) {
    await sequence.clearHistory();
    result.prefill_ms.push(await clocked(() => sequence.evaluateWithoutGeneratingNewTokens(tokens)));
    const singles = Array.from({ length: steps }, (_, step) => tokens[step % tokens.length]);
    const headless = (token) => sequence.evaluateWithoutGeneratingNewTokens([token]);
    const whole = (token) => sequence.controlledEvaluate([[token, { generateNext }]]);
    result.headless_ms.push(await clockedEach(singles, headless));
    result.step_ms.push(await clockedEach(singles, whole));
  }
  return result;
}

async function clockedEach(tokens, action) {
  const times = [];
  for (const token of tokens) times.push(await clocked(() => action(token)));
  return times;
}

async function clocked(action) {
  const started = performance.now();
  await action();
  return performance.now() - started;
}

/** What a user of node-llama-cpp gets: greedy generation, the time of each token. */
async function generate({ sequence }, { tokens, count, repeat = 1 }) {
  const results = [];
  for (let turn = 0; turn < repeat; turn++) {
    await sequence.clearHistory();
    results.push(await generateOnce(sequence, tokens, count));
  }
  return results;
}

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
