import { z } from "zod";
import type { GeneratedToken, GenerationResult } from "../serving/generation.ts";
import { sandboxBytes } from "../serving/sandbox/sandbox.ts";
import { checkOptions } from "./checkOptions.ts";
import { loadTextModel } from "./model.ts";
import { type ModelOptions, modelFields } from "./modelOptions.ts";
import { continueText, Writing, type WritingOptions, writingFields } from "./writing.ts";

/** A model, a prompt, and how the one is run and the other continued. */
export interface GenerateOptions extends ModelOptions, WritingOptions {
  /** Path, URL or name. */
  readonly model: string;
  readonly prompt: string;
}

const text = z.string().max(100_000_000);
const schema = z.strictObject({ ...modelFields, ...writingFields, model: z.string().min(1).max(10_000), prompt: text });

/**
 * Continues one text: loads the model when it is iterated, and frees it when the text has ended. For more than one text,
 * `loadModel` once. Throws `BAD_USAGE`; iterating throws what `loadModel` throws, and `CONTEXT_EXCEEDED`, `ABORTED`.
 *
 * @example
 * const story = generate({ model: "model.gguf", prompt: "Once upon a time", maxTokens: 200 });
 * for await (const piece of story) process.stdout.write(piece);
 * console.log(story.result?.timings.predicted_per_second);
 */
export function generate(options: GenerateOptions): Writing {
  checkOptions("options", schema, options);
  return new Writing(() => loadAndWrite(options));
}

async function* loadAndWrite(options: GenerateOptions): AsyncGenerator<GeneratedToken, GenerationResult> {
  const hasGrammar = options.grammar !== undefined || options.jsonSchema !== undefined;
  const own = hasGrammar ? { hostBytes: sandboxBytes } : {};
  await using textModel = await loadTextModel(options.model, options, own);
  return yield* continueText(textModel, () => textModel.encodePrompt(options.prompt), options, []);
}
