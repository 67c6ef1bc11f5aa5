import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateModel } from "../../bench/generateModel.mjs";
import { absentData, sharedData, skipIf } from "../skip.ts";
import {
  divergences,
  type ReferenceRun,
  type References,
  readReferences,
  sameInstructions,
  startEngine,
} from "./oracle.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Where tokens differ, it has to be a near-tie. llama.cpp's own builds for different CPUs differ from each other by up to
 * 0.2 in log-probability on these models: they round activations differently.
 */
const nearTie = 0.35;

async function compare(path: string, made: References["made"], runs: ReferenceRun[]): Promise<void> {
  await using engine = await startEngine(path);
  for (const run of runs) {
    const found = await divergences(engine, run);
    if (sameInstructions(engine, made)) expect(found).toEqual([]);
    for (const { difference } of found) expect(difference).toBeLessThan(nearTie);
  }
}

describe("the bundled model writes what llama.cpp writes", () => {
  const { made, models } = readReferences("own-model");
  const bundled = models.find(({ file }) => file === "stellium-shakespeare-5m-q8_0.gguf")!;
  it("q8_0", () => compare(join(root, "models", bundled.file!), made, bundled.runs));
});

for (const [name, folder] of [
  ["own-model", "own-model"],
  ["stories260K", "stories260K"],
] as const) {
  const { made, models } = readReferences(name);
  const absent = skipIf(!existsSync(sharedData(folder)), absentData(folder));
  describe(name, absent, () => {
    for (const { file, runs } of models) {
      it(file!, () => compare(sharedData(folder, file!), made, runs));
    }
  });
}

describe("models of random weights", () => {
  const { made, models } = readReferences("tiny");
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  for (const { generator, sha256, runs } of models) {
    it(`${generator!.shape} ${generator!.type}`, async ({ skip }) => {
      const path = join(folder, `${generator!.shape}-${generator!.type}.gguf`);
      await generateModel({ path, ...generator! });
      const digest = createHash("sha256").update(readFileSync(path)).digest("hex");
      skip(digest !== sha256, "this CPU quantizes to another file than the one the reference was made from");
      await compare(path, made, runs);
      rmSync(path);
    });
  }
});
