import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Conversation } from "../../bench/conversation.mjs";

const library = new URL("../../bench/conversation.mjs", import.meta.url).href;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Opens a process that answers by what `answer`, an expression, makes of a question. */
function open(answer: string, signal?: AbortSignal): Conversation {
  const script = join(folder, `${Math.random()}.mjs`);
  writeFileSync(script, `import { answerLines } from ${JSON.stringify(library)};\nawait answerLines(${answer});\n`);
  return new Conversation("the other", script, signal);
}

it("answers one question after the other, whatever is in them", async () => {
  const other = open("async ({ text }) => (text === '' ? undefined : [text, text.length])");
  for (const text of ["a", "two\nlines", "\u2028 é"]) expect(await other.ask({ text })).toEqual([text, text.length]);
  expect(await other.ask({ text: "" })).toBeNull();
  await other.close();
});

it("says how the process ended that should have answered", async () => {
  const other = open("() => process.exit(7)");
  await expect(other.ask({})).rejects.toThrow("the other failed: exit 7");
  await other.close();
});

it("ends by a signal's reason", async () => {
  const controller = new AbortController();
  const other = open("() => new Promise(() => setTimeout(() => {}, 10_000))", controller.signal);
  const asked = other.ask({});
  controller.abort(new Error("enough"));
  await expect(asked).rejects.toThrow("enough");
  await other.close();
});
