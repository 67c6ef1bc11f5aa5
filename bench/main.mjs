import { parseArgs } from "node:util";

/** Each command, what it says about itself, and the module that runs it, loaded only then. */
const commands = {
  answers: {
    about: "[--only TEXT] [--steps 32] [--json FILE]: compare what 2 to 8 ranks answer with what one device does",
    run: answers,
  },
  model: {
    about: `--shape NAME --type TYPE (--out FILE [--header-only] | --serve PORT) [--seed 1] [--layers N]: write a GGUF of
              random weights, or its header alone, or serve one that lies on no disk`,
    run: model,
  },
  collectives: {
    about: `[--ranks 2,4,8] [--latency 0.1,1,3,10] [--mbit 100,300,1000] [--payload BYTES,...] [--wire f32]
              [--cipher none] [--seconds 5] [--json FILE] [--quick] [--loopback [--against DIR]]: time one all-reduce
              over emulated LANs, or between two ranks on loopback, in turns with another built checkout`,
    run: collectives,
  },
  scaling: {
    about: `[--shape llama-2-7b] [--type Q4_0] [--ranks 2] [--latency 1] [--mbit 300] [--cpu 0.8] [--rounds 3]
              [--tokens 24] [--dir DIR]: decode on one device and on several of an emulated LAN`,
    run: scaling,
  },
  memory: {
    about: `[--only caps,limit,answers,llama,design] [--rounds 3] [--tokens 12] [--threads N] [--dir DIR] [--json FILE]:
              caps held in control groups, and speed under them`,
    run: memory,
  },
  "api-fuzz": {
    about:
      "[--requests 50000] [--seed N]: send malformed requests to a server of the bundled model; only 4xx may come back",
    run: apiFuzz,
  },
  experts: {
    about: `[--shape qwen3-30b-a3b] [--type Q4_0] [--layers N] [--model FILE] [--caps 2000,4000,6000] [--resident 20000] [--words 64]
              [--tokens 96] [--rounds 2] [--threads N] [--dir DIR]: a mixture of experts under caps in MB, against its
              limit and llama.cpp over the mapped file`,
    run: experts,
  },
  fuzz: {
    about: "[--count 100000] [--seed N]: hostile frames and messages against live devices",
    run: fuzz,
  },
  large: {
    about: `[--shape llama-2-70b] [--type Q4_0] [--layers N] [--devices 8] [--worker 512] [--leader 768] [--alone 3000]
              [--tokens 16] [--wire f32] [--dir DIR]: a model that lies on no disk, under caps in MB: several
              devices, then one`,
    run: large,
  },
  load: {
    about: `[--clients 200] [--seconds 300] [--seed N] [--devices 1]: many clients of a server of the bundled model, some of
              which leave: answers as alone, no slot taken, no memory lost`,
    run: load,
  },
  overlap: {
    about: `[--shape qwen3-0.6b] [--type Q4_0] [--ranks 2] [--latency 1] [--mbit 300,100] [--tokens 512] [--wire f16]
              [--rounds 5] [--cpu 1] [--dir DIR]: take a prompt on emulated LANs, with communication beside computing and
              behind it`,
    run: overlap,
  },
  perplexity: {
    about: "[--windows 120] [--ranks 2,4]: what each wire type changes of it, on the models that are there",
    run: perplexity,
  },
  references: { about: "[--data DIR] [--only TEXT]: ask llama.cpp for test/references", run: references },
  restart: {
    about: `[--shape llama-2-7b] [--type Q4_0] [--layers N] [--devices 4] [--dir DIR]: what a first and a second start
              of local devices take and send`,
    run: restart,
  },
  routing: {
    about: `FILE...: how often experts are among those used last, for pools of several sizes, by records of
              \`stellium generate --record-routing\``,
    run: routing,
  },
  serve: {
    about: `[--shape tinyllama-1.1b] [--type Q4_0] [--threads 2] [--streams 8] [--tokens 48] [--prefix 1000] [--rounds 3]
              [--dir DIR] [--json FILE]: many streams of a server against one, llama.cpp, and no HTTP; cached prefixes`,
    run: serve,
  },
  single: {
    about: `[--shapes LIST] [--types LIST] [--layers N] [--threads 1,2] [--rounds 3] [--poll 0,50,100] [--steps 64] [--prompt 512]
              [--dir DIR] [--json FILE]: compare one device with llama.cpp`,
    run: single,
  },
  starts: {
    about: `[--shape tinyllama-1.1b] [--type Q4_0] [--layers N] [--ranks 1] [--cpu 0.3] [--threads 1] [--rounds 5]
              [--dir DIR]: what a start would take that reads a kept slice, against one that converts the model's file`,
    run: starts,
  },
};

const [name = "", ...args] = process.argv.slice(2);
const command = Object.hasOwn(commands, name) ? commands[/** @type {keyof typeof commands} */ (name)] : undefined;
try {
  if (command) await command.run(args);
  else list();
} catch (error) {
  process.stderr.write(`${/** @type {Error} */ (error).message}\n`);
  process.exitCode = 1;
}

function list() {
  for (const [verb, { about }] of Object.entries(commands)) process.stderr.write(`  ${verb.padEnd(12)}${about}\n`);
  process.exitCode = name ? 2 : 0;
}

/** @param {string[]} args */
async function model(args) {
  const { runModel } = await import("./modelCommand.mjs");
  await runModel(args);
}

/** @param {string[]} args */
async function apiFuzz(args) {
  const { values } = parseArgs({ args, options: { requests: { type: "string" }, seed: { type: "string" } } });
  const { runApiFuzz } = await import("./apiFuzz.mjs");
  await runApiFuzz({ requests: Number(values.requests ?? 50_000), seed: Number(values.seed ?? Date.now()) });
}

/** @param {string[]} args */
async function references(args) {
  const { values } = parseArgs({ args, options: { data: { type: "string" }, only: { type: "string" } } });
  const { writeReferences } = await import("./references.mjs");
  await writeReferences(values);
}

/** @param {string[]} args */
async function serve(args) {
  const { run } = await import("./serve.mjs");
  await run(args);
}

/** @param {string[]} args */
async function single(args) {
  const { run } = await import("./single.mjs");
  await run(args);
}

/** @param {string[]} args */
async function collectives(args) {
  const { run } = await import("./collectives.mjs");
  await run(args);
}

/** @param {string[]} args */
async function scaling(args) {
  const { run } = await import("./scaling.mjs");
  await run(args);
}

/** @param {string[]} args */
async function answers(args) {
  const { run } = await import("./answers.mjs");
  await run(args);
}

/** @param {string[]} args */
async function experts(args) {
  const { run } = await import("./experts.mjs");
  await run(args);
}

/** @param {string[]} args */
async function fuzz(args) {
  const { run } = await import("./fuzz.mjs");
  await run(args);
}

/** @param {string[]} args */
async function large(args) {
  const { run } = await import("./large.mjs");
  await run(args);
}

/** @param {string[]} args */
async function load(args) {
  const { run } = await import("./load.mjs");
  await run(args);
}

/** @param {string[]} args */
async function overlap(args) {
  const { run } = await import("./overlap.mjs");
  await run(args);
}

/** @param {string[]} args */
async function perplexity(args) {
  const { run } = await import("./perplexity.mjs");
  await run(args);
}

/** @param {string[]} args */
async function restart(args) {
  const { run } = await import("./restart.mjs");
  await run(args);
}

/** @param {string[]} args */
async function routing(args) {
  const { run } = await import("./routing.mjs");
  await run(args);
}

/** @param {string[]} args */
async function memory(args) {
  const { run } = await import("./memory.mjs");
  await run(args);
}

/** @param {string[]} args */
async function starts(args) {
  const { run } = await import("./starts.mjs");
  await run(args);
}
