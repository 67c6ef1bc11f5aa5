import { randomInt } from "node:crypto";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { defaultSampling } from "../serving/samplingParameters.ts";
import type { TextModel } from "../serving/textModel.ts";
import type { Values } from "./arguments/option.ts";
import type { demoOptions } from "./commands.ts";
import { peakRssBytes } from "./deviceReport.ts";
import { formatBytes } from "./format.ts";
import type { Interruption } from "./interruption.ts";
import { loadModel } from "./loadModel.ts";
import { TextOutput } from "./textOutput.ts";

const bundledModel = fileURLToPath(new URL("../../models/stellium-shakespeare-5m-q8_0.gguf", import.meta.url));
const openings = ["ROMEO:", "JULIET:", "KING RICHARD III:", "First Citizen:", "MENENIUS:", "DUKE VINCENTIO:"];
const sampling = { ...defaultSampling, temperature: 0.7, topK: 40 };

interface Scene {
  readonly tokens: number;
  /** Milliseconds since the process started. */
  readonly firstAt: number;
  readonly lastAt: number;
}

/** Has the bundled model write a scene, and tells what that took. */
export async function demo(values: Values<typeof demoOptions>, { signal }: Interruption): Promise<void> {
  const seed = values.seed ?? randomInt(2 ** 32);
  await using textModel = await loadModel({ ...noOptions, ...values, model: bundledModel }, signal);
  const scene = await play(textModel, seed, values.predict ?? Infinity, signal);
  process.stderr.write(epilogue(textModel, scene, seed));
}

const absent = { context: undefined, batch: undefined, kv: undefined, gpuLayers: undefined, trace: undefined };
const noOptions = { offline: true, ...absent };

/** Writes a scene of about `length` tokens to stdout: it ends with the speech in which they are reached. */
async function play(textModel: TextModel, seed: number, length: number, signal: AbortSignal): Promise<Scene> {
  const opening = openings[seed % openings.length]!;
  const prompt = textModel.encodePrompt(opening);
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

function epilogue(textModel: TextModel, { tokens, firstAt, lastAt }: Scene, seed: number): string {
  const perSecond = Math.round(((tokens - 1) * 1000) / (lastAt - firstAt));
  const { engine, memory } = textModel.coordinator;
  const file = relative(process.cwd(), bundledModel);
  return [
    "",
    `speed    ${perSecond} tokens/s; the first of ${tokens} came ${Math.round(firstAt)} ms after the start`,
    `memory   ${formatBytes(peakRssBytes())} at most, of which weights ${formatBytes(engine.weightBytes)}, KV cache up to ${formatBytes(memory.kvBytes)}`,
    `seed     ${seed} (--seed ${seed} writes this scene again)`,
    "",
    "Try next:",
    `  stellium run ${file.startsWith("..") ? bundledModel : file}`,
    "  stellium help",
    "",
  ].join("\n");
}
