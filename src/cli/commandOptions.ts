import { mostRanks } from "../plan/shares.ts";
import { defaultSampling } from "../serving/samplingParameters.ts";
import { number, text, toggle } from "./arguments/option.ts";
import { cacheDirOption, cacheSizeOption, clusterOptions, tokenOptions } from "./clusterOptions.ts";
import { linkOption, ratesOption, sizesOption } from "./figures.ts";
import { memoryOptions } from "./memoryOptions.ts";
import {
  chatTemplateOption,
  grammarOptions,
  jsonOption,
  loadOptions,
  modelOptions,
  predictOption,
  promptOptions,
  samplingOptions,
  seedOption,
  stopOption,
} from "./options.ts";

/** Options of `stellium run`. */
export const runOptions = {
  ...loadOptions,
  ...promptOptions,
  system: text({ flag: "system", value: "TEXT", summary: "what the model is told before the conversation" }),
  chatTemplateFile: chatTemplateOption,
  predict: predictOption(-1),
  ...samplingOptions(defaultSampling),
  stop: stopOption,
  verbose: toggle({ flag: "verbose", summary: "tell the speed after each answer" }),
};

/** Options of `stellium generate`. */
export const generateOptions = {
  ...loadOptions,
  ...promptOptions,
  predict: predictOption(64),
  ...samplingOptions({ ...defaultSampling, temperature: 0 }),
  stop: stopOption,
  ...grammarOptions,
  ignoreEos: toggle({ flag: "ignore-eos", summary: "go on where the model would end" }),
  recordRouting: text({
    flag: "record-routing",
    value: "FILE",
    summary: "record which experts each token uses, for `stellium plan --routing`",
  }),
  json: jsonOption,
};

/** Options of `stellium show`. */
export const showOptions = { ...modelOptions, json: jsonOption };

/** Options of `stellium pull`. */
export const pullOptions = { model: modelOptions.model, json: jsonOption };

/** Options of `stellium ls`. */
export const listOptions = { json: jsonOption };

/** Options of `stellium rm`. */
export const removeOptions = {
  // Not the option that STELLIUM_MODEL stands for: what is to be removed has to be said.
  model: text({ flag: "local-model", value: "MODEL", summary: "a model by its name in `stellium ls`" }),
  all: toggle({ flag: "all", summary: "remove all models of the repository" }),
  json: jsonOption,
};

/** Options of `stellium ps`. */
export const processOptions = { json: jsonOption };

/** Options of `stellium devices`. */
export const devicesOptions = {
  action: text({ flag: "action", value: "rm", summary: "rm removes a device" }),
  name: text({ flag: "device", value: "NAME", summary: "the device to remove, by its name or id" }),
  cacheDir: cacheDirOption,
  json: jsonOption,
};

/** Options of `stellium token`. */
export const tokenCommandOptions = {
  rotate: toggle({ flag: "rotate", summary: "replace it by a new one, also for a coordinator that runs" }),
  cacheDir: cacheDirOption,
  json: jsonOption,
};

/** Options of `stellium demo`. */
export const demoOptions = {
  predict: predictOption(300),
  seed: seedOption,
  threads: loadOptions.threads,
  ...memoryOptions,
  noSlice: loadOptions.noSlice,
  ...clusterOptions,
  devices: { ...clusterOptions.devices, summary: "processes on this machine that share the model (default 4)" },
};

/** Options of `stellium join`. */
export const joinOptions = {
  address: text({
    flag: "coordinator",
    value: "HOST:PORT",
    summary: "where the coordinator listens (default: found by multicast DNS)",
  }),
  via: text({ flag: "via", value: "ADDRESS", summary: "look for it on the network interface with this address" }),
  ...tokenOptions,
  threads: loadOptions.threads,
  ...memoryOptions,
  cacheDir: cacheDirOption,
  cacheSize: cacheSizeOption,
  name: text({ flag: "name", value: "NAME", summary: "what to call this device (default: its host name)" }),
};

/** Options of `stellium cache`. */
export const cacheOptions = {
  action: text({ flag: "action", value: "prune", summary: "prune removes slices" }),
  cacheDir: cacheDirOption,
  cacheSize: cacheSizeOption,
  olderThan: text({ flag: "older-than", value: "AGE", summary: "with prune: those not used for so long, such as 30d" }),
  all: toggle({ flag: "all", summary: "with prune: all of them" }),
  json: jsonOption,
};

/** Options of `stellium plan`. */
export const planOptions = {
  ...modelOptions,
  memory: sizesOption({
    flag: "memory",
    value: "SIZE",
    summary: "what each device may take, such as 3GB (default: all)",
  }),
  devices: number({
    flag: "devices",
    value: "K",
    summary: "how many devices share the model (default 1)",
    min: 1,
    max: mostRanks,
    whole: true,
  }),
  shares: clusterOptions.shares,
  compute: ratesOption({
    flag: "compute",
    value: "RATE",
    summary: "weights computed with, such as 20GB/s (default: measured here)",
  }),
  disk: ratesOption({
    flag: "disk",
    value: "RATE",
    summary: "disk reads, such as 1GB/s (default: measured here, or 500MB/s)",
  }),
  link: linkOption({
    flag: "link",
    value: "TIME,RATE",
    summary: "between devices, one way (default 1ms,300mbit)",
  }),
  wire: clusterOptions.wire,
  collective: clusterOptions.collective,
  context: loadOptions.context,
  batch: loadOptions.batch,
  kv: loadOptions.kv,
  threads: loadOptions.threads,
  window: number({
    flag: "window",
    value: "N",
    summary: "blocks the window holds (default: 3, or what fits)",
    min: 1,
    max: 1024,
    whole: true,
  }),
  routing: text({
    flag: "routing",
    value: "FILE",
    summary: "expert use recorded by `generate --record-routing` (default: all equally likely)",
  }),
  promptTokens: number({
    flag: "prompt-tokens",
    value: "N",
    summary: "how long a prompt to predict (default 512)",
    min: 1,
    max: 1 << 24,
    whole: true,
    fallback: 512,
  }),
  promptSpeedup: number({
    flag: "prompt-speedup",
    value: "X",
    summary: "prompt tokens computed in the time of one that is written (default 7)",
    min: 1,
    max: 1000,
    fallback: 7,
  }),
  json: jsonOption,
};
