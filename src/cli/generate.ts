import type { GenerationRequest, GenerationResult } from "../serving/generation.ts";
import type { TextModel } from "../serving/textModel.ts";
import { outputPath } from "../system/outputFile.ts";
import type { Values } from "./arguments/option.ts";
import type { generateOptions } from "./commandOptions.ts";
import { deviceReports } from "./deviceReport.ts";
import { grammarOf } from "./grammarInput.ts";
import type { Interruption } from "./interruption.ts";
import { loadModel } from "./loadModel.ts";
import { promptOf } from "./textInput.ts";
import { follow, TextOutput } from "./textOutput.ts";

type GenerateValues = Values<typeof generateOptions>;

/** Continues a prompt: the text on stdout as it is written, or with `json` one object in the end. */
export async function generate(values: GenerateValues, { signal }: Interruption): Promise<void> {
  const prompt = (await promptOf(values)) ?? "";
  const grammar = await grammarOf(values);
  const recordRouting = values.recordRouting && outputPath(values.recordRouting);
  await using textModel = await loadModel(values, signal, { recordRouting });
  const request = { ...requestOf(values, await textModel.encodePrompt(prompt)), grammar };
  const generation = textModel.generate(request, signal);
  if (values.json) {
    const pieces: string[] = [];
    const result = await follow(generation, (piece) => pieces.push(piece));
    const report = await reportOf(textModel, request, result, pieces.join(""));
    return void process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  }
  const output = new TextOutput();
  try {
    await follow(generation, (piece) => output.write(piece));
  } finally {
    output.endLine();
  }
}

function requestOf(values: GenerateValues, prompt: Int32Array): GenerationRequest {
  return { prompt, maxTokens: values.predict, sampling: values, stop: values.stop, ignoreEos: values.ignoreEos };
}

async function reportOf(textModel: TextModel, request: GenerationRequest, result: GenerationResult, text: string) {
  return {
    text,
    prompt_tokens: Array.from(request.prompt),
    tokens: result.tokens,
    finish_reason: result.finishReason,
    seed: result.seed,
    timings: result.timings,
    devices: await deviceReports(textModel),
  };
}
