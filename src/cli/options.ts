import type { KvType } from "../engine/kvCache.ts";
import type { SamplingParameters } from "../serving/samplingParameters.ts";
import { choice, number, type Option, refused, text, texts, toggle, type Values } from "./arguments/option.ts";
import { clusterOptions } from "./clusterOptions.ts";
import { memoryOptions, noSliceOption } from "./memoryOptions.ts";

const kvTypes = ["f32", "f16", "q8_0"] as const satisfies readonly KvType[];

/** Which model is meant. */
export const modelOptions = {
  model: text({
    flag: "model",
    short: "m",
    aliases: ["-hf", "--hf-repo"],
    value: "MODEL",
    summary: "a GGUF file, an URL, or a model of Hugging Face, as user/repo:Q4_K_M",
  }),
  offline: toggle({ flag: "offline", summary: "fetch nothing: the model has to be on this device" }),
};

/** Which model to run, and how. */
export const loadOptions = {
  ...modelOptions,
  context: number({
    flag: "ctx-size",
    short: "c",
    value: "N",
    summary: "tokens the context holds (default: as the model was trained for, at most 8192)",
    min: 1,
    max: 1 << 24,
    whole: true,
  }),
  threads: number({
    flag: "threads",
    short: "t",
    value: "N",
    summary: "threads that compute (default: one for each core that the CPU quota allows)",
    min: 1,
    max: 512,
    whole: true,
  }),
  batch: number({
    flag: "batch",
    short: "b",
    aliases: ["--batch-size"],
    value: "N",
    summary: "prompt tokens computed at once (default 512)",
    min: 1,
    max: 65_536,
    whole: true,
  }),
  kv: choice({
    flag: "kv",
    value: "TYPE",
    summary: `type of the KV cache: ${kvTypes.join(", ")} (default f16)`,
    choices: kvTypes,
  }),
  gpuLayers: text({
    flag: "n-gpu-layers",
    aliases: ["-ngl", "--gpu-layers"],
    value: "N",
    summary: "also -ngl; has no effect: this build computes on the CPU",
  }),
  ...memoryOptions,
  noSlice: noSliceOption,
  ...clusterOptions,
  trace: text({
    flag: "trace",
    value: "FILE",
    summary: "write what each thread of each device did when, for ui.perfetto.dev",
  }),
};

/** Where a prompt comes from. */
export const promptOptions = {
  prompt: text({ flag: "prompt", short: "p", value: "TEXT", summary: "the prompt" }),
  promptFile: text({
    flag: "prompt-file",
    short: "f",
    aliases: ["--file"],
    value: "FILE",
    summary: "a UTF-8 file that holds the prompt; - is stdin",
  }),
};

/** Another chat template than the model's own. */
export const chatTemplateOption = text({
  flag: "chat-template-file",
  value: "FILE",
  summary: "a Jinja template to use instead of the model's own",
});

/** What the text has to be. */
export const grammarOptions = {
  grammar: text({ flag: "grammar", value: "GBNF", summary: "write only what this grammar allows" }),
  grammarFile: text({ flag: "grammar-file", value: "FILE", summary: "the same, from a file" }),
  jsonSchema: text({
    flag: "json-schema",
    short: "j",
    aliases: ["-jf", "--json-schema-file"],
    value: "FILE",
    summary: "write JSON that matches this schema: a file, or the schema itself",
  }),
};

/** How many tokens to write: -1 is as many as the context holds. */
export function predictOption(fallback: number): Option<number | undefined> {
  const option = number({
    flag: "predict",
    short: "n",
    aliases: ["--n-predict"],
    value: "N",
    summary: `tokens to write at most; -1 is all that the context holds (default ${fallback})`,
    min: -1,
    max: 2 ** 31 - 1,
    whole: true,
    fallback,
  });
  const read = (given: readonly string[]) => {
    const tokens = option.read(given);
    if (tokens === 0) throw refused(option, "0", "-1 or at least 1");
    return tokens === -1 ? undefined : tokens;
  };
  return { ...option, read };
}

/** Where the random numbers start. */
export const seedOption: Option<number | undefined> = {
  flag: "seed",
  short: "s",
  value: "N",
  summary: "the same seed writes the same text; -1 picks one (default -1)",
  read: (given) => {
    const { read } = number({ ...seedOption, min: -1, max: Number.MAX_SAFE_INTEGER, whole: true, fallback: -1 });
    const seed = read(given);
    return seed === -1 ? undefined : seed;
  },
};

/** Texts that end the writing. */
export const stopOption = texts({ flag: "stop", value: "TEXT", summary: "ends the text where TEXT would come" });

/** How tokens are chosen; `defaults` where an option is absent. */
export function samplingOptions(defaults: SamplingParameters) {
  const real = (flag: string, what: string, fallback: number, min: number, max: number, aliases: string[] = []) =>
    number({ flag, aliases, value: "X", summary: `${what} (default ${fallback})`, min, max, fallback });
  const count = (flag: string, what: string, fallback: number) =>
    number({
      flag,
      value: "N",
      summary: `${what} (default ${fallback})`,
      min: -1,
      max: 2 ** 31 - 1,
      whole: true,
      fallback,
    });
  return {
    seed: seedOption,
    temperature: real("temp", "0 takes the likeliest token, more is bolder", defaults.temperature, 0, 100, [
      "--temperature",
    ]),
    topK: count("top-k", "choose among the N likeliest tokens; 0 is all", defaults.topK),
    topP: real("top-p", "choose among the likeliest that have X of the probability", defaults.topP, 0, 1),
    minP: real("min-p", "leave out what is less than X times as likely as the likeliest", defaults.minP, 0, 1),
    repeatPenalty: real("repeat-penalty", "above 1, repeat less", defaults.repeatPenalty, 0.01, 100),
    penaltyLastN: count("repeat-last-n", "tokens the penalties look back at; -1 is all", defaults.penaltyLastN),
    presencePenalty: real("presence-penalty", "taken from tokens that occurred", defaults.presencePenalty, -100, 100),
    frequencyPenalty: real(
      "frequency-penalty",
      "taken from tokens for each time they occurred",
      defaults.frequencyPenalty,
      -100,
      100,
    ),
    logitBias: logitBiasOption,
  };
}

const biasSpelling = {
  flag: "logit-bias",
  value: "ID=BIAS",
  summary: "adds BIAS to token ID's logit; -inf forbids it",
};

/** Also as llama.cpp spells it: `15043+1`, `15043-1`. */
const logitBiasOption: Option<ReadonlyMap<number, number>> = {
  ...biasSpelling,
  repeatable: true,
  read: (given) => new Map(given.map(readBias)),
};

function readBias(given: string): readonly [number, number] {
  const { id, bias = "" } = /^(?<id>\d+)(?:=|(?=[+-]))(?<bias>[^\s]+)$/.exec(given)?.groups ?? {};
  const value = bias === "-inf" ? -Infinity : Number(bias);
  if (id !== undefined && Number.isSafeInteger(Number(id)) && (Number.isFinite(value) || value === -Infinity)) {
    return [Number(id), value];
  }
  throw refused(biasSpelling, given, "ID=BIAS, a token's id and a number");
}

/** Values of `loadOptions`. */
export type LoadValues = Values<typeof loadOptions>;
/** Values of `promptOptions`. */
export type PromptValues = Values<typeof promptOptions>;
/** Values of `grammarOptions`. */
export type GrammarValues = Values<typeof grammarOptions>;
/** Values of `samplingOptions`; they are `SamplingParameters` as well. */
export type SamplingValues = Values<ReturnType<typeof samplingOptions>>;

/** The switch for results that programs read. */
export const jsonOption = toggle({ flag: "json", summary: "write one JSON object" });
