import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateModel } from "../bench/generateModel.mjs";

const demo = join(import.meta.dirname, "../models/stellium-shakespeare-5m-q8_0.gguf");

/** A mixture of experts with random weights, in a folder that is removed after the run. */
async function mixture(): Promise<string> {
  const path = join(mkdtempSync(join(tmpdir(), "stellium-kinds-")), "mixture.gguf");
  await generateModel({ shape: "tiny-qwen3moe", type: "F32", layers: 24, path });
  return path;
}

/** Models on which the same tests run: what holds for one kind holds for the other. */
export const kinds: readonly (readonly [name: string, path: () => Promise<string>])[] = [
  ["a dense model", () => Promise.resolve(demo)],
  ["a mixture of experts", mixture],
];
