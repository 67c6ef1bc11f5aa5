import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readRouting } from "#stellium/trace/readRouting";
import { type RoutingChoice, recordRouting } from "#stellium/trace/routing";

const folder = mkdtempSync(join(tmpdir(), "stellium-routing-"));
afterAll(() => rmSync(folder, { recursive: true }));

const facts = { layers: [1, 2], experts: 8, used: 2 };

async function choicesOf(path: string): Promise<RoutingChoice[]> {
  const choices: RoutingChoice[] = [];
  await readRouting(path, (head) => {
    expect(head).toEqual(facts);
    return (choice) => choices.push(choice);
  });
  return choices;
}

function written(name: string, lines: readonly unknown[], end = "\n"): string {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n") + end);
  return path;
}

describe("a routing record", () => {
  it("has the choices of passes that count, in order, once it is complete", async () => {
    const path = join(folder, "record");
    const recorder = recordRouting(path, facts);
    recorder.choose(1, Int32Array.of(3, 4, 5, 6));
    recorder.choose(2, Int32Array.of(0, 7, 1, 2));
    recorder.end(true);
    recorder.choose(1, [1, 2]);
    recorder.end(false);
    recorder.choose(1, [6, 7]);
    recorder.end(true);
    expect(existsSync(path)).toBe(false);
    recorder[Symbol.dispose]();
    expect(await choicesOf(path)).toEqual([
      { layer: 1, ids: [3, 4, 5, 6] },
      { layer: 2, ids: [0, 7, 1, 2] },
      { layer: 1, ids: [6, 7] },
    ]);
  });

  it("leaves what was there before if nothing was taken down", () => {
    const path = written("before", ["kept"]);
    recordRouting(path, facts)[Symbol.dispose]();
    expect(readFileSync(path, "utf8")).toBe("kept\n");
    expect(existsSync(`${path}.part`)).toBe(false);
  });

  it("is refused at once where it cannot be written", () => {
    const path = join(folder, "none", "record");
    expect(() => recordRouting(path, facts)).toThrow(expect.objectContaining({ code: "FILE_UNWRITABLE" }));
  });

  const head = { format: "stellium-routing", version: 1, ...facts };

  it("is read as far as whole lines go", async () => {
    const path = written("cut", [head, { layer: 1, ids: [1, 2] }, '{"layer":2,"ids":[3'], "");
    expect(await choicesOf(path)).toEqual([{ layer: 1, ids: [1, 2] }]);
  });

  it.each([
    ["an empty line", [""], "it is not JSON (line 1)"],
    ["another file", ["GGUF"], "it is not JSON (line 1)"],
    ["another version", [{ ...head, version: 2 }], "it does not begin as a record does (line 1)"],
    ["no layers", [{ ...head, layers: [] }], "it does not begin as a record does (line 1)"],
    ["too many experts", [{ ...head, experts: 1e9 }], "it does not begin as a record does (line 1)"],
    [
      "too many experts in all",
      [{ ...head, experts: 60_000, layers: Array.from({ length: 20 }, (_, i) => i) }],
      "1200000 experts",
    ],
    ["more experts of a token than there are", [{ ...head, used: 9 }], "each token gets 9 of 8 experts (line 1)"],
    ["a layer without experts", [head, { layer: 3, ids: [1, 2] }], "layer 3 has no experts (line 2)"],
    ["half a token", [head, { layer: 1, ids: [1] }], "it has 1 experts, and each token gets 2 (line 2)"],
    ["an expert beyond the last", [head, { layer: 1, ids: [1, 8] }], "there are 8 experts (line 2)"],
    ["an expert that is no number", [head, { layer: 1, ids: [1, "2"] }], "it is no choice (line 2)"],
  ])("is refused if it has %s", async (name, lines, reason) => {
    const path = written(name, lines);
    const refusal = readRouting(path, () => () => {});
    await expect(refusal).rejects.toMatchObject({ code: "ROUTING_INVALID" });
    await expect(refusal).rejects.toThrow(reason);
  });

  it("is not read as one line of any length", async () => {
    const path = join(folder, "long");
    writeFileSync(path, Buffer.alloc((1 << 26) + (1 << 20), 32));
    await expect(readRouting(path, () => () => {})).rejects.toMatchObject({ code: "ROUTING_INVALID" });
  });

  it("is refused where there is no file", async () => {
    mkdirSync(join(folder, "folder"));
    for (const name of ["nothing", "folder"]) {
      const reading = readRouting(join(folder, name), () => () => {});
      await expect(reading).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
    }
  });
});
