import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { generateModel } from "./generateModel.mjs";
import { denseShapes, keyVariants } from "./model/denseShapes.mjs";
import { moeShapes, sameWeights } from "./model/moeShapes.mjs";
import { askOracle } from "./oracleClient.mjs";

/**
 * @typedef {object} Reference What llama.cpp answers with one model.
 * @property {import("./generateModel.mjs").ModelOptions} [generator] Makes the file again; without it, `file` names it.
 * @property {string} [file]
 * @property {string} sha256
 * @property {{ prompt: number[], text?: string, tokens: number[], top: [token: number, logprob: number][][] }[]} runs
 */

const target = join(import.meta.dirname, "..", "test", "references");
const basicTypes = ["Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "F16"];
const otherTypes = [
  ...["F32", "BF16", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS"],
  ...["IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "MXFP4", "TQ1_0", "TQ2_0"],
];
const variants = ["tiny-llama-tied", "tiny-llama-linear", "tiny-llama-yarn", "tiny-llama-llama3"];
/** @param {number} length */
const promptOf = (length) => Array.from({ length }, (_, i) => (i * 37 + 11) % 500);
/** @typedef {{ models: () => { shape: string, type: string, seed: number }[], prompt: number[], count: number, top: number }} GeneratedFamily */
/** @type {Record<string, GeneratedFamily>} */
const generated = {
  tiny: { models: tinyModels, prompt: promptOf(40), count: 32, top: 5 },
  // Longer than every window.
  dense: { models: denseModels, prompt: promptOf(300), count: 64, top: 2 },
  moe: { models: moeModels, prompt: promptOf(300), count: 64, top: 2 },
};
const families = [
  { directory: "stories260K", prompts: ["", "Once upon a time, there was a little girl named Lily."] },
  {
    directory: "own-model",
    prompts: ["ROMEO:", "JULIET:\nO Romeo,", "First Citizen:\nBefore we proceed any further,"],
  },
];

/** @type {import("./oracleClient.mjs").OracleLoaded["llama"] | undefined} */
let made;

/**
 * Writes what llama.cpp answers into `test/references`. `data` is a folder of trained models that this repository does not
 * hold; without it, only the generated ones are asked.
 * @param {{ data?: string, only?: string }} options `only`: the family to make, such as `tiny`.
 */
export async function writeReferences({ data, only }) {
  await mkdir(target, { recursive: true });
  for (const [family, made] of Object.entries(generated)) {
    if (!only || only === family) await save(family, await generatedReferences(made));
  }
  for (const { directory, prompts } of families) {
    if (!data || (only && only !== directory)) continue;
    await save(directory, await trainedReferences(join(data, directory), prompts));
  }
  if (made) process.stderr.write(`made with llama.cpp ${made.release}, ${made.variant} kernels, ${made.cpu}\n`);
}

/** @param {GeneratedFamily} family @returns {Promise<Reference[]>} */
async function generatedReferences({ models, ...question }) {
  const directory = await mkdtemp(join(tmpdir(), "stellium-references-"));
  try {
    /** @type {Reference[]} */
    const references = [];
    for (const generator of models())
      references.push(await generatedReference(generator, join(directory, "model.gguf"), question));
    return references;
  } finally {
    await rm(directory, { recursive: true });
  }
}

function tinyModels() {
  const architectures = ["tiny-llama", "tiny-qwen2", "tiny-qwen3"];
  return [
    ...architectures.flatMap((shape) => basicTypes.map((type) => ({ shape, type, seed: 1 }))),
    ...variants.map((shape) => ({ shape, type: "Q8_0", seed: 1 })),
    ...otherTypes.map((type) => ({ shape: "tiny-llama", type, seed: 1 })),
  ];
}

/** The deep ones take long: one type of each is enough for what they show, as it is for what other keys do. */
function denseModels() {
  const types = (/** @type {string} */ shape) => {
    if (shape.endsWith("-deep")) return ["Q8_0"];
    return keyVariants.includes(shape) ? ["F32"] : ["F32", "Q8_0", "Q4_K"];
  };
  return Object.keys(denseShapes).flatMap((shape) => types(shape).map((type) => ({ shape, type, seed: 1 })));
}

/** Seeds of shapes in which seed 1 has a token so close to a tie between two experts that rounding decides it, even in F32. */
const untiedSeeds = new Map([
  ["tiny-olmoe", 5],
  ["tiny-granitemoe-shared", 3],
  ["tiny-glm4moe-air", 4],
  ["tiny-gemma4-moe", 4],
]);

function moeModels() {
  const types = (/** @type {string} */ shape) => [
    ...(shape.endsWith("-deep") ? ["Q8_0"] : ["F32", "Q8_0", "Q4_K"]),
    ...(shape === "tiny-gpt-oss" ? ["MXFP4"] : []),
  ];
  return Object.keys(moeShapes).flatMap((shape) =>
    types(shape).map((type) => ({ shape, type, seed: untiedSeeds.get(shape) ?? 1 })),
  );
}

/**
 * @param {{ shape: string, type: string, seed: number }} generator
 * @param {string} path
 * @param {Omit<GeneratedFamily, "models">} question
 * @returns {Promise<Reference>}
 */
async function generatedReference(generator, path, { prompt, count, top }) {
  process.stderr.write(`${generator.shape} ${generator.type}\n`);
  const { shape } = generator;
  await generateModel({ ...generator, shape: sameWeights[shape] ?? shape, path });
  const [result] = await answers(path, [{ kind: "greedy", tokens: prompt, count, top }]);
  if (shape in sameWeights) await generateModel({ ...generator, path });
  return { generator, sha256: await sha256(path), runs: [{ prompt, ...rounded(result) }] };
}

/**
 * @param {string} directory
 * @param {string[]} prompts
 */
async function trainedReferences(directory, prompts) {
  const files = existsSync(directory) ? (await readdir(directory)).filter((name) => name.endsWith(".gguf")) : [];
  /** @type {Reference[]} */
  const references = [];
  for (const file of files.sort()) references.push(await trainedReference(join(directory, file), prompts));
  return references;
}

/**
 * @param {string} path
 * @param {string[]} texts
 * @returns {Promise<Reference>}
 */
async function trainedReference(path, texts) {
  process.stderr.write(`${basename(path)}\n`);
  const prompts = await answers(path, [...texts.map((text) => ({ kind: /** @type {const} */ ("tokenize"), text }))]);
  const results = await answers(
    path,
    prompts.map((tokens) => ({ kind: "greedy", tokens, count: 200 })),
  );
  const runs = results.map((result, index) => ({
    prompt: prompts[index],
    text: texts[index] ?? "",
    ...rounded(result),
  }));
  return { file: basename(path), sha256: await sha256(path), runs };
}

/**
 * @param {string} model
 * @param {import("./oracleClient.mjs").OracleTask[]} tasks
 */
async function answers(model, tasks) {
  // Beside other programs, several threads wait for each other.
  const reply = await askOracle({ model, tasks, threads: 1 });
  made = reply.llama;
  return reply.results;
}

/** @param {import("./oracleClient.mjs").GreedyResult} result @returns {import("./oracleClient.mjs").GreedyResult} */
function rounded({ tokens, top }) {
  return { tokens, top: top.map((best) => best.map(([token, logprob]) => [token, Number(logprob.toFixed(4))])) };
}

/** @param {string} path */
async function sha256(path) {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

/**
 * One line per model, so that a change shows which.
 * @param {string} family
 * @param {Reference[]} references
 */
async function save(family, references) {
  if (!references.length) return;
  const lines = references.map((reference) => JSON.stringify(reference)).join(",\n");
  await writeFile(join(target, `${family}.json`), `{"made":${JSON.stringify(made)},"models":[\n${lines}\n]}\n`);
}
