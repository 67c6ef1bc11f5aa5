import { once } from "node:events";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { environment, model, start, stellium, until } from "./stellium.ts";

const references = join(import.meta.dirname, "../../models/references");

const generate = (...args: string[]) => stellium(["generate", "-m", model, ...args]);
const generateJson = async (...args: string[]) => JSON.parse((await generate(...args, "--json")).stdout);

describe("--json", () => {
  it("is one object with every field", async () => {
    const { code, stdout, stderr } = await generate("-p", "ROMEO:", "-n", "8", "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const number = expect.any(Number);
    const positive = expect.toSatisfy((value: number) => value > 0);
    const report = JSON.parse(stdout);
    expect(report).toEqual({
      text: expect.stringMatching(/^\nI./),
      prompt_tokens: [1022, 855, 25],
      tokens: [198, 40, ...Array(6).fill(number)],
      finish_reason: "length",
      seed: number,
      timings: {
        prompt_n: 3,
        cache_n: 0,
        prompt_ms: positive,
        prompt_per_second: positive,
        predicted_n: 8,
        predicted_ms: positive,
        predicted_per_second: positive,
      },
      devices: [
        {
          rank: 0,
          host: hostname(),
          threads: 1,
          cores: positive,
          cpu_quota: expect.toSatisfy((quota: unknown) => quota === null || Number(quota) > 0),
          shares: { attention: 8, ffn: 768, head: 1024 },
          peak_rss_bytes: expect.toSatisfy((bytes: number) => bytes > 30e6 && bytes < 400e6),
          memory_cap_bytes: positive,
          weight_bytes: positive,
          pinned_bytes: report.devices[0].weight_bytes,
          window_bytes: 0,
          window_filled: 0,
          kv_bytes: positive,
          disk_bytes_read: positive,
          compute_ms: positive,
          disk_wait_ms: 0,
          collective_ms: 0,
          wait_ms: 0,
          cipher_ms: 0,
          collective_count: 0,
          bytes_sent: 0,
          bytes_received: 0,
          opening_bytes_sent: 0,
          control_bytes_sent: 0,
          control_bytes_received: 0,
        },
      ],
    });
  });
});

describe("greedy", async () => {
  interface Case {
    prompt: string;
    prompt_token_ids: number[];
    greedy_token_ids: number[];
    top5_logits: { logit: number }[][];
  }
  const casesOf = async (name: string) => JSON.parse(await readFile(join(references, name), "utf8")).cases as Case[];
  const torch = await casesOf("reference-torch-q8_0.json");
  const llamacpp = await casesOf("reference-llamacpp-q8_0.json");

  const cases = llamacpp.map((wanted, i) => ({ ...wanted, ...safeSteps(torch[i]!) }));
  it.each(cases.filter(({ steps }) => steps > 0))(
    "writes llama.cpp's first $steps tokens after $prompt",
    async ({ prompt, prompt_token_ids, greedy_token_ids, steps }) => {
      const { prompt_tokens, tokens } = await generateJson("-p", prompt, "-n", String(steps));
      expect(prompt_tokens).toEqual(prompt_token_ids);
      expect(tokens).toEqual(greedy_token_ids.slice(0, steps));
    },
  );

  /** Builds for different CPUs choose differently where two tokens are as close as this. */
  function safeSteps({ top5_logits }: Case) {
    const tied = top5_logits.findIndex(([first, second]) => first!.logit - second!.logit < 0.2);
    return { steps: tied < 0 ? top5_logits.length : tied };
  }
});

describe("text", () => {
  it("is written to stdout without the prompt, byte for byte", async () => {
    const { text } = await generateJson("-p", "ROMEO:", "-n", "8");
    const { code, stdout, stderr } = await generate("-p", "ROMEO:", "-n", "8");
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: text, stderr: "" });
  });

  it("is the same for the same seed, and another for another", async () => {
    const seeded = async (seed: string) =>
      (await generate("-p", "JULIET:", "-n", "24", "--temp", "1", "-s", seed)).stdout;
    const [first, second, other] = await Promise.all([seeded("7"), seeded("7"), seeded("8")]);
    expect(first).toBe(second);
    expect(first).not.toBe(other);
  });

  it("ends before a stop string", async () => {
    const { text } = await generateJson("-p", "ROMEO:");
    const stop = text.slice(8, 12);
    const report = await generateJson("-p", "ROMEO:", "--stop", "zzz", "--stop", stop);
    expect(report).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: "stop" });
  });

  it("goes on after the end where it is told to", async () => {
    const prompt = ["-p", "USER:\nWhat news from the war?\n\nCITIZEN:\n", "-n", "30"];
    expect(await generateJson(...prompt)).toMatchObject({ finish_reason: "stop" });
    const report = await generateJson(...prompt, "--ignore-eos");
    expect(report.finish_reason).toBe("length");
    expect(report.tokens).toHaveLength(30);
  });

  it("follows biases and the type of the KV cache", async () => {
    const report = await generateJson("-p", "ROMEO:", "-n", "2", "--logit-bias", "198=-inf", "--logit-bias", "40=99");
    expect(report.tokens[0]).toBe(40);
    const wide = await generateJson("-p", "ROMEO:", "-n", "2", "--kv", "f32");
    expect(wide.devices[0].kv_bytes).toBe(2 * report.devices[0].kv_bytes);
  });
});

describe("the prompt", () => {
  it("is the beginning-of-sequence token alone where there is none", async () => {
    expect((await generateJson("-n", "1")).prompt_tokens).toEqual([1022]);
  });

  it("may begin with a dash", async () => {
    const [dash, plain] = await Promise.all([
      generateJson("-n", "1", "-p", "- a"),
      generateJson("-n", "1", "--prompt=- a"),
    ]);
    expect(dash.prompt_tokens).toEqual(plain.prompt_tokens);
  });

  it("comes from a file or from stdin", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "stellium-cli-")), "prompt.txt");
    await writeFile(path, "ROMEO:");
    const piped = await stellium(["generate", "-m", model, "--prompt-file", "-", "-n", "4"], { input: "ROMEO:" });
    const filed = await generate("--prompt-file", path, "-n", "4");
    expect(piped.stdout).toBe((await generate("-p", "ROMEO:", "-n", "4")).stdout);
    expect(filed.stdout).toBe(piped.stdout);
    await writeFile(path, Buffer.from([0x52, 0xff]));
    expect(await generate("--prompt-file", path)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: `stellium: cannot read ${path}: it is not UTF-8 text. Check the path and its permissions.\n`,
    });
  });
});

describe("options", () => {
  it("are taken from the environment, where the arguments do not say otherwise", async () => {
    const env = { STELLIUM_MODEL: model, STELLIUM_PREDICT: "2", STELLIUM_JSON: "1", STELLIUM_PROMPT: "ROMEO:" };
    expect(JSON.parse((await stellium(["generate"], { env })).stdout).tokens).toEqual([198, 40]);
    expect(JSON.parse((await stellium(["generate", "-n", "1"], { env })).stdout).tokens).toEqual([198]);
  });

  it("include -ngl, with a warning", async () => {
    expect(await generate("-p", "ROMEO:", "-n", "1", "-ngl", "99")).toMatchObject({
      code: 0,
      stderr: "warn: this build computes on the CPU; -ngl has no effect\n",
    });
  });
});

describe("an end from outside", () => {
  // More than any test waits for.
  const endless = ["generate", "-m", model, "-n", "-1", "-c", "30000", "--ignore-eos", "--temp", "1"];

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("by %s stops it, with exit code %d and no complaint", async (signal, code) => {
    const { child, outcome, ended } = start(endless, { env: { STELLIUM_LOG: "error" } });
    await until(() => outcome.stdout.length > 100);
    child.kill(signal);
    expect(await ended).toMatchObject({ code, signal: null, stderr: "" });
    expect(() => process.kill(child.pid!, 0)).toThrow("ESRCH");
  });

  it("by a reader that left is quiet", async () => {
    const { child, ended } = start(endless, { env: { ...environment(), STELLIUM_LOG: "error" } });
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect(await ended).toMatchObject({ code: 0, signal: null, stderr: "" });
  });
});

describe("what the text has to be", () => {
  const bird = {
    type: "object",
    properties: { wings: { type: "integer", minimum: 0, maximum: 9 } },
    required: ["wings"],
  };

  it("is a JSON schema, given or in a file", async () => {
    const file = join(await mkdtemp(join(tmpdir(), "stellium-")), "bird.json");
    await writeFile(file, JSON.stringify(bird));
    for (const schema of [file, JSON.stringify(bird)]) {
      const { text, finish_reason } = await generateJson("-p", "A bird: ", "--json-schema", schema);
      expect(JSON.parse(text)).toEqual({ wings: expect.toSatisfy((wings: number) => wings >= 0 && wings <= 9) });
      expect(finish_reason).toBe("stop");
    }
  });

  it("is a grammar, given or in a file", async () => {
    const gbnf = 'root ::= "To " ("be" | "sleep") "."';
    const file = join(await mkdtemp(join(tmpdir(), "stellium-")), "hamlet.gbnf");
    await writeFile(file, gbnf);
    for (const given of [
      ["--grammar", gbnf],
      ["--grammar-file", file],
    ]) {
      expect((await generateJson("-p", "HAMLET:", ...given)).text).toMatch(/^To (be|sleep)\.$/);
    }
  });

  it("is refused before the model is loaded where it cannot be", async () => {
    const refused = [
      [["--grammar", "root ::= root"], "has no end"],
      [["--json-schema", '{"not": {}}'], "/not"],
      [["--json-schema", "{"], "is not JSON"],
      [["--grammar", 'root ::= "a"', "--json-schema", "{}"], "give one of"],
    ] as const;
    for (const [given, reason] of refused) {
      const { code, stderr } = await generate(...given);
      expect(code).toBeGreaterThan(0);
      expect(stderr).toContain(reason);
    }
  });
});
