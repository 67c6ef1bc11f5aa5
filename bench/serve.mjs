import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Conversation } from "./conversation.mjs";
import { shapeNamed } from "./model/shapes.mjs";
import { askOracle } from "./oracleClient.mjs";
import { readOptions } from "./serve/options.mjs";
import { promptOf } from "./serve/prompts.mjs";
import { startServer } from "./serve/server.mjs";
import { StreamClient } from "./serve/streams.mjs";
import { abortOnSignals } from "./single/interruption.mjs";
import { machine } from "./single/machine.mjs";
import { withModel } from "./single/modelFile.mjs";
import { median } from "./single/statistics.mjs";

/** @typedef {import("./serve/options.mjs").Options} Options */

const directScript = join(import.meta.dirname, "serve", "direct.mjs");
/** Streams with HTTP and without, in turns: the machine's speed drifts by more than they differ. */
const pairs = 5;

/**
 * @typedef {object} Round Tokens per second of all streams, and milliseconds to a first token.
 * @property {number} one
 * @property {number} direct One stream, without HTTP.
 * @property {number[]} overheads What HTTP and events add to a token's time, as a share of it: once for each pair of streams.
 * @property {number} many
 * @property {number} llama As many, by llama.cpp.
 * @property {number} uncached
 * @property {number} cached
 */

/**
 * `serve`: what a server makes of many streams, against one, against llama.cpp, and against no HTTP; and what a cached
 * prefix saves. All of a round follows on each other, so that they share what else the machine does.
 * @param {string[]} args
 */
export async function run(args) {
  const options = readOptions(args);
  const interruption = abortOnSignals();
  const model = { shape: options.shape, type: options.type, dir: options.dir, signal: interruption.signal };
  try {
    await withModel(model, async (path) => {
      const rounds = await measure(path, options, interruption.signal);
      const figures = figuresOf(rounds);
      print(options, figures);
      const result = { machine: machine(), options, figures, rounds };
      if (options.json) await writeFile(options.json, `${JSON.stringify(result, null, 2)}\n`);
    });
  } finally {
    interruption.end();
  }
}

/** @param {string} path @param {Options} options @param {AbortSignal} signal */
async function measure(path, options, signal) {
  const { threads, streams, tokens, prefix } = options;
  const context = Math.max(tokens, prefix) + 64;
  const flags = ["--threads", `${threads}`, "--parallel", `${streams}`, "--ctx-size", `${context}`];
  const server = await startServer(path, flags, signal);
  const client = new StreamClient(server.url);
  const direct = new Conversation("Stellium without HTTP", directScript, signal);
  try {
    await direct.ask({ model: path, threads, context, streams });
    /** @type {Round[]} */
    const rounds = [];
    for (let round = 0; round < options.rounds; round++) {
      process.stderr.write(`round ${round + 1} of ${options.rounds}\n`);
      rounds.push(await measureRound({ path, options, context, client, direct, signal }, round));
    }
    return rounds;
  } finally {
    await direct.close();
    client.close();
    await server.stop();
  }
}

/** @typedef {{ path: string, options: Options, context: number, client: StreamClient, direct: Conversation, signal: AbortSignal }} Subjects */

/**
 * @param {Subjects} subjects
 * @param {number} round
 * @returns {Promise<Round>}
 */
async function measureRound({ path, options, context, client, direct, signal }, round) {
  const { streams, tokens, prefix } = options;
  const { vocabulary } = shapeNamed(options.shape);
  const prompts = Array.from({ length: streams }, (_, i) => promptOf(vocabulary, round * 100 + i));
  const alone = await measurePairs(client, direct, prompts.slice(0, 1), tokens);
  const many = await client.rate(prompts, tokens);
  const llama = await llamaRate(path, options, context, prompts, signal);
  const beginning = promptOf(vocabulary, round * 100 + 99, prefix);
  const uncached = await client.firstToken([...beginning, ...promptOf(vocabulary, 1, 8)]);
  const cached = await client.firstToken([...beginning, ...promptOf(vocabulary, 2, 8)]);
  if (cached.cached < prefix) throw new Error(`${cached.cached} of ${prefix} tokens were cached`);
  return { ...alone, many, llama, uncached: uncached.ms, cached: cached.ms };
}

/**
 * One stream with HTTP and without, in turns.
 * @param {StreamClient} client
 * @param {Conversation} direct
 * @param {number[][]} prompts
 * @param {number} tokens
 */
async function measurePairs(client, direct, prompts, tokens) {
  const http = () => client.rate(prompts, tokens);
  /** @type {() => Promise<number>} */
  const without = () => direct.ask({ prompts, tokens });
  // The first of each kind warms up.
  for (const stream of [http, without]) await stream();
  const rates = [];
  for (let pair = 0; pair < pairs; pair++) {
    // Each begins every other time.
    const first = pair % 2 === 0 ? await http() : undefined;
    const direct = await without();
    rates.push({ one: first ?? (await http()), direct });
  }
  const [one, bare] = [rates.map(({ one }) => one), rates.map(({ direct }) => direct)];
  return { one: median(one), direct: median(bare), overheads: rates.map(({ one, direct }) => direct / one - 1) };
}

/** @param {string} model @param {Options} options @param {number} contextSize @param {number[][]} prompts @param {AbortSignal} signal */
async function llamaRate(model, { threads, tokens }, contextSize, prompts, signal) {
  /** @type {import("./oracleClient.mjs").OracleTask[]} */
  const tasks = [{ kind: "parallel", prompts, count: tokens }];
  const request = { model, threads, contextSize, sequences: prompts.length, tasks };
  const { results } = await askOracle(request, signal);
  return /** @type {number} */ (results[0]);
}

/** @param {readonly Round[]} rounds */
function figuresOf(rounds) {
  const of = (/** @type {(round: Round) => number} */ figure) => median(rounds.map(figure));
  return {
    one_per_second: of(({ one }) => one),
    direct_per_second: of(({ direct }) => direct),
    many_per_second: of(({ many }) => many),
    llama_many_per_second: of(({ llama }) => llama),
    many_to_one: of(({ many, one }) => many / one),
    many_to_llama: of(({ many, llama }) => many / llama),
    http_overhead: median(rounds.flatMap(({ overheads }) => overheads)),
    first_token_uncached_ms: of(({ uncached }) => uncached),
    first_token_cached_ms: of(({ cached }) => cached),
    cached_to_uncached: of(({ cached, uncached }) => cached / uncached),
  };
}

/** @param {Options} options @param {ReturnType<typeof figuresOf>} figures */
function print({ shape, type, threads, streams, prefix, rounds }, figures) {
  const say = (/** @type {string} */ what, /** @type {string} */ value, aim = "") =>
    process.stdout.write(`${what.padEnd(52)}${value.padStart(12)}  ${aim}\n`);
  const rate = (/** @type {number} */ value) => `${value.toFixed(1)} t/s`;
  process.stdout.write(`${shape} ${type}, ${threads} threads, medians of ${rounds} rounds\n`);
  say("one stream", rate(figures.one_per_second));
  say("one stream without HTTP", rate(figures.direct_per_second));
  say("  HTTP and events, of a token's time", percent(figures.http_overhead), "< 3 %");
  say(`${streams} streams, all together`, rate(figures.many_per_second));
  say("  to one stream", figures.many_to_one.toFixed(2), ">= 3");
  say(`llama.cpp, ${streams} sequences`, rate(figures.llama_many_per_second));
  say("  Stellium to llama.cpp", figures.many_to_llama.toFixed(2), ">= 0.95");
  say(`first token behind ${prefix} tokens`, `${figures.first_token_uncached_ms.toFixed(0)} ms`);
  say("first token behind as many that are cached", `${figures.first_token_cached_ms.toFixed(0)} ms`);
  say("  cached to uncached", percent(figures.cached_to_uncached), "< 5 %");
}

/** @param {number} value */
function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}
