import { randomInt } from "node:crypto";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { StelliumError } from "../errors.ts";
import { defaultSampling } from "../serving/samplingParameters.ts";
import type { TextModel } from "../serving/textModel.ts";
import type { Values } from "./arguments/option.ts";
import type { demoOptions } from "./commandOptions.ts";
import { deviceReports, peakRssBytes } from "./deviceReport.ts";
import { formatBytes } from "./format.ts";
import type { Interruption } from "./interruption.ts";
import { loadModel } from "./loadModel.ts";
import { TextOutput } from "./textOutput.ts";

type DemoValues = Values<typeof demoOptions>;

const demoModel = "stellium-demo-model";
const openings = ["ROMEO:", "JULIET:", "KING RICHARD III:", "First Citizen:", "MENENIUS:", "DUKE VINCENTIO:"];
const sampling = { ...defaultSampling, temperature: 0.7, topK: 40 };
const defaultDevices = 4;

interface Scene {
  readonly tokens: number;
  /** Milliseconds since the process started. */
  readonly firstAt: number;
  readonly lastAt: number;
}

interface Source {
  readonly model: string;
  readonly seed: number;
}

/** Has a tiny model write a scene, on four devices unless told otherwise, and tells what that took. */
export async function demo(values: DemoValues, { signal }: Interruption): Promise<void> {
  const seed = values.seed ?? randomInt(2 ** 32);
  const model = demoModelFile();
  await using textModel = await load({ ...values, model }, signal);
  const scene = await play(textModel, seed, values.predict ?? Infinity, signal);
  process.stderr.write(epilogue(textModel, scene, { model, seed }, await deviceReports(textModel)));
}

/** The file of the model, which is a package of its own. Throws `DEMO_MODEL_MISSING`. */
function demoModelFile(): string {
  try {
    return fileURLToPath(import.meta.resolve(`${demoModel}/model.gguf`));
  } catch (error) {
    throw new StelliumError("DEMO_MODEL_MISSING", { package: demoModel }, { cause: error });
  }
}

/** Its prompts are a few tokens. Batches too small to be divided spare every device a communication thread at the start. */
const batch = 32;
const noOptions = { offline: true, batch, context: undefined, kv: undefined, gpuLayers: undefined, trace: undefined };

/** Loads the demo's model on as many devices as were asked for; where nobody asked, one has to do if several cannot. */
async function load(values: DemoValues & { model: string }, signal: AbortSignal): Promise<TextModel> {
  const asked = { ...noOptions, ...values };
  const { devices, workers, shares, listen } = values;
  if ([devices, workers, shares, listen].some((option) => option !== undefined)) return await loadModel(asked, signal);
  try {
    return await loadModel({ ...asked, ...onThisMachine(values) }, signal);
  } catch (error) {
    if (signal.aborted || !(error instanceof StelliumError)) throw error;
    process.stderr.write(
      `${defaultDevices} devices cannot share this machine: ${error.message}. One does it alone.\n\n`,
    );
    return await loadModel(asked, signal);
  }
}

/** Processes that share a few cores are fastest with one thread each, and with as few messages as possible. */
function onThisMachine({ threads, collective }: DemoValues) {
  return { devices: defaultDevices, threads: threads ?? 1, collective: collective ?? ("star" as const) };
}

/** Writes a scene of about `length` tokens to stdout: it ends with the speech in which they are reached. */
async function play(textModel: TextModel, seed: number, length: number, signal: AbortSignal): Promise<Scene> {
  const opening = openings[seed % openings.length]!;
  const prompt = await textModel.encodePrompt(opening);
  const output = new TextOutput();
  output.write(opening);
  let [tokens, firstAt] = [0, 0];
  try {
    for await (const { text } of textModel.generate({ prompt, sampling: { ...sampling, seed } }, signal)) {
      firstAt ||= performance.now();
      output.write(text);
      if (++tokens >= length && output.text.endsWith("\n\n")) break;
    }
  } finally {
    output.endLine({ always: true });
  }
  return { tokens, firstAt, lastAt: performance.now() };
}

type Devices = Awaited<ReturnType<typeof deviceReports>>;

function epilogue(textModel: TextModel, scene: Scene, { model, seed }: Source, devices: Devices): string {
  const { tokens, firstAt, lastAt } = scene;
  const perSecond = Math.round(((tokens - 1) * 1000) / (lastAt - firstAt));
  const found = relative(process.cwd(), model);
  const file = found.startsWith("..") ? model : found;
  return [
    "",
    ...(devices.length > 1 ? deviceTable(devices) : [memoryOfOne(textModel)]),
    `speed    ${perSecond} tokens/s; the first of ${tokens} came ${Math.round(firstAt)} ms after the start`,
    `seed     ${seed} (--seed ${seed} writes this scene again)`,
    "",
    "Try next:",
    `  stellium run ${file}`,
    `  stellium run ${file} --workers 1   with another machine`,
    "  stellium help",
    "",
  ].join("\n");
}

function memoryOfOne({ coordinator: { engine, memory } }: TextModel): string {
  const parts = `weights ${formatBytes(engine.weightBytes)}, KV cache up to ${formatBytes(memory.kvBytes)}`;
  return `memory   ${formatBytes(peakRssBytes())} at most, of which ${parts}`;
}

/** What each device had of the model, and of this machine's memory. */
function deviceTable(devices: Devices): string[] {
  const sum = (part: "attention" | "ffn") => devices.reduce((total, { shares }) => total + shares[part], 0);
  const [heads, columns] = [sum("attention"), sum("ffn")];
  const rows = devices.map(({ rank, shares, weight_bytes: weights, peak_rss_bytes: peak }) => {
    const process = rank === 0 ? "this process, with the text" : `worker process ${rank}`;
    const share = `${shares.attention} of ${heads} KV heads, ${shares.ffn} of ${columns} FFN columns`;
    return `         ${process.padEnd(27)}  ${share}; weights ${formatBytes(weights)}, memory ${formatBytes(peak)}`;
  });
  return [
    `devices  ${devices.length} on this machine, linked over loopback, each with a part of every layer:`,
    ...rows,
  ];
}
