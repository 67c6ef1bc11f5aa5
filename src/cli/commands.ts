import type { Described } from "./arguments/help.ts";
import type { Options, Values } from "./arguments/option.ts";
import type { Grammar } from "./arguments/parse.ts";
import {
  cacheOptions,
  demoOptions,
  devicesOptions,
  generateOptions,
  joinOptions,
  listOptions,
  planOptions,
  processOptions,
  pullOptions,
  removeOptions,
  runOptions,
  showOptions,
  tokenCommandOptions,
} from "./commandOptions.ts";
import type { Interruption } from "./interruption.ts";
import { serveOptions } from "./serveOptions.ts";

/** A verb of the command line. */
export interface Command extends Described, Grammar {
  /** Other names that people know from other programs. Not shown in help. */
  readonly aliases?: readonly string[];
  /** Does it. Each verb's code is loaded when it is called for. */
  readonly run: (values: never, interruption: Interruption) => Promise<void>;
}

/** Every verb, in the order of `stellium help`. */
export const commands: readonly Command[] = [
  command({
    name: "run",
    summary: "Chat with a model",
    usage: "MODEL [PROMPT] [options]",
    details: [
      "Without a prompt it is a conversation in the terminal (/help explains it), or, where stdin is",
      "no terminal, the answer to all of stdin. Names of control tokens in what you write, such as",
      "<|im_end|>, are text to the model, and end nothing.",
    ],
    options: runOptions,
    positionals: ["model", "prompt"],
    examples: [
      "stellium run Qwen/Qwen3-4B-GGUF:Q4_K_M",
      'stellium run model.gguf "Why is the sky blue?"',
      'stellium run model.gguf --system "Answer in French." < question.txt',
    ],
    run: async (values, interruption) => (await import("./run.ts")).run(values, interruption),
  }),
  command({
    name: "generate",
    summary: "Continue a text",
    usage: "-m MODEL -p TEXT [options]",
    details: ["The prompt is taken as it is, without a chat template; without one, the model starts from nothing."],
    options: generateOptions,
    positionals: ["model"],
    examples: [
      'stellium generate -m model.gguf -p "Once upon a time"',
      "stellium generate -m model.gguf --prompt-file story.txt -n 200 --temp 0.8 --seed 7",
      "stellium generate -m model.gguf -p Hello --json",
      'stellium generate -m model.gguf -p "A bird: " --json-schema bird.schema.json',
    ],
    run: async (values, interruption) => (await import("./generate.ts")).generate(values, interruption),
  }),
  command({
    name: "serve",
    summary: "Answer programs over HTTP, by OpenAI's API",
    usage: "MODEL [options]",
    details: [
      "Programs find it by OPENAI_BASE_URL=http://127.0.0.1:7710/v1, people at http://127.0.0.1:7710/, with",
      "a chat and a view of all devices. A --host that others can reach needs an API key. Sampling options",
      "are what requests that say nothing get. Ctrl-C ends it when running requests have ended; docs/api.md",
      "tells the rest.",
    ],
    options: serveOptions,
    positionals: ["model"],
    examples: [
      "stellium serve model.gguf",
      "STELLIUM_API_KEY=secret stellium serve model.gguf --host 0.0.0.0",
      "stellium serve model.gguf --workers 2 --parallel 4 --prefix-cache 1GB",
    ],
    run: async (values, interruption) => (await import("./serve.ts")).serve(values, interruption),
  }),
  command({
    name: "join",
    summary: "Take part in a cluster",
    usage: "[HOST:PORT] --token TOKEN [options]",
    details: [
      "Run it on each further device: it receives its part of the model from the coordinator, keeps",
      "that on disk, and computes with it. It joins again by itself when the coordinator restarts.",
      "The token admits it the first time; then it has a key of its own, and the token only names it.",
      "Without an address it looks for the coordinator that has this token, where the network lets",
      "multicast through; with one it needs no such thing.",
    ],
    options: joinOptions,
    positionals: ["address"],
    examples: [
      "stellium join 192.168.1.20:7711 --token 7k2v0q9x4m1c8z5t3w6y0a2b4d",
      "STELLIUM_TOKEN=7k2v0q9x4m1c8z5t3w6y0a2b4d stellium join",
    ],
    run: async (values, interruption) => (await import("./join.ts")).join(values, interruption),
  }),
  command({
    name: "devices",
    summary: "List or remove the devices that have joined",
    usage: "[rm NAME] [options]",
    details: [
      "Run it where the coordinator runs. Each device that joins gets a key of its own. rm takes it back: the",
      "device is disconnected within a second and cannot join again, and the others notice nothing. The token",
      "that it was admitted with admits no device from then on.",
    ],
    options: devicesOptions,
    positionals: ["action", "name"],
    examples: ["stellium devices", "stellium devices rm old-laptop"],
    run: async (values) => (await import("./devices.ts")).admittedDevices(values),
  }),
  command({
    name: "token",
    summary: "Show or replace the token that admits new devices",
    usage: "[options]",
    details: [
      "Run it where the coordinator runs, as the same user: it reads the file that the token of that coordinator is",
      "kept in, or else prints the token that the next one will have if it is given none.",
      "After --rotate, new devices join with the new token; devices that have joined do not need it.",
    ],
    options: tokenCommandOptions,
    positionals: [],
    examples: ["stellium token", "stellium token --rotate"],
    run: async (values) => (await import("./token.ts")).printToken(values),
  }),
  command({
    name: "cache",
    summary: "List or remove slices of models",
    usage: "[prune] [options]",
    details: [
      "Slices are parts of models in this device's own layout: received, or cut to be streamed or from an URL.",
      "Of models behind URLs there are vocabularies, too, and of networks what was measured. prune removes what is",
      "half written or unreadable, and what you name.",
    ],
    options: cacheOptions,
    positionals: ["action"],
    examples: ["stellium cache", "stellium cache prune --older-than 30d"],
    run: async (values) => (await import("./cache.ts")).cache(values),
  }),
  command({
    name: "plan",
    summary: "Estimate memory and speed for real or hypothetical devices",
    usage: "-m MODEL [options]",
    details: [
      "Nothing is loaded: a GGUF's header is enough. --memory, --compute and --disk take a value for each",
      "device, this one's first, as in 768MB,512MB; the last one holds for all further devices.",
      "docs/planning.md explains the figures.",
    ],
    options: planOptions,
    positionals: ["model"],
    examples: [
      "stellium plan -m model.gguf --memory 3GB",
      "stellium plan -m model.gguf --devices 8 --memory 768MB,512MB --disk 1GB/s --compute 20GB/s --link 1ms,300mbit",
      "stellium plan -m model.gguf --shares 3,1 --json",
    ],
    run: async (values, { signal }) => (await import("./plan.ts")).plan(values, signal),
  }),
  command({
    name: "show",
    summary: "Describe a model",
    usage: "MODEL [options]",
    details: [
      "Reads what a GGUF says about itself, and tells whether Stellium can run it. Of what is not on this",
      "device it reads the header alone.",
    ],
    options: showOptions,
    positionals: ["model"],
    examples: ["stellium show model.gguf", "stellium show Qwen/Qwen3-4B-GGUF --json"],
    run: async (values, { signal }) => (await import("./show.ts")).show(values, signal),
  }),
  command({
    name: "pull",
    summary: "Fetch a model to this device",
    usage: "MODEL [options]",
    details: [
      "MODEL is user/repo, user/repo:QUANT, hf.co/user/repo:QUANT, user/repo:FILE, or an URL. Without a quantization it",
      "is Q4_K_M, else Q8_0, else the first one. What was fetched in part is gone on with; docs/models.md tells the rest.",
    ],
    options: pullOptions,
    positionals: ["model"],
    examples: ["stellium pull Qwen/Qwen3-4B-GGUF:Q4_K_M", "stellium pull https://example.org/model.gguf"],
    run: async (values, { signal }) => (await import("./pull.ts")).pull(values, signal),
  }),
  command({
    name: "ls",
    aliases: ["list"],
    summary: "List the models on this device",
    usage: "[options]",
    details: ["Models that other programs have fetched from Hugging Face are among them."],
    options: listOptions,
    positionals: [],
    examples: ["stellium ls", "stellium ls --json"],
    run: async (values) => (await import("./ls.ts")).list(values),
  }),
  command({
    name: "rm",
    summary: "Remove a model from this device",
    usage: "MODEL [options]",
    details: ["Names are those that `stellium ls` tells. What other models need as well stays."],
    options: removeOptions,
    positionals: ["model"],
    examples: ["stellium rm Qwen/Qwen3-4B-GGUF:Q4_K_M", "stellium rm Qwen/Qwen3-4B-GGUF --all"],
    run: async (values) => (await import("./rm.ts")).remove(values),
  }),
  command({
    name: "ps",
    summary: "List what runs on this machine",
    usage: "[options]",
    details: ["Servers, conversations and devices of clusters that this user has started, with their memory."],
    options: processOptions,
    positionals: [],
    examples: ["stellium ps", "stellium ps --json"],
    run: async (values) => (await import("./ps.ts")).processes(values),
  }),
  command({
    name: "demo",
    summary: "Have the bundled model write a scene",
    usage: "[options]",
    details: [
      "The model is tiny and comes with Stellium: it shows that everything works, and knows nothing.",
      "Four processes with one thread each share it as four machines would, by way of loopback.",
    ],
    options: demoOptions,
    positionals: [],
    examples: ["stellium demo", "stellium demo --seed 1597", "stellium demo --devices 1"],
    run: async (values, interruption) => (await import("./demo.ts")).demo(values, interruption),
  }),
];

/** Keeps the types of a command's options and of its values together, and then forgets them. */
function command<O extends Options>(
  entry: Omit<Command, "run"> & { options: O; run: (values: Values<O>, interruption: Interruption) => Promise<void> },
): Command {
  return entry;
}
