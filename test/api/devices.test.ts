import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { fallbackChatTemplate } from "#stellium/serving/chatTemplate";
import { model, start, until } from "../cli/stellium.ts";
import { eventsOf, json } from "./harness.ts";

const token = "a token of these tests";
const folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
const templateFile = join(folder, "template.jinja");
writeFileSync(templateFile, `${fallbackChatTemplate}{# <tool_call> #}`);
const processes = new Set<ReturnType<typeof start>>();
afterAll(async () => {
  for (const { child } of processes) child.kill("SIGKILL");
  for (const { ended } of processes) await ended;
  rmSync(folder, { recursive: true, maxRetries: 5 });
});

function run(...args: string[]) {
  const running = start(args, { env: { STELLIUM_TOKEN: token, STELLIUM_CACHE_DIR: folder } });
  processes.add(running);
  return running;
}

/** Waits for a line on stderr, and returns what its group matched. */
async function said({ child, outcome }: ReturnType<typeof start>, pattern: RegExp): Promise<string> {
  await until(() => pattern.test(outcome.stderr) || child.exitCode !== null);
  const found = pattern.exec(outcome.stderr);
  if (found === null) throw new Error(outcome.stderr);
  return found[1]!;
}

const weather = z.object({ city: z.enum(["Oslo", "Bern"]), days: z.int().min(1).max(9) });
const request = { model: "any", messages: [{ role: "user" as const, content: "Speak." }], temperature: 0 };

describe.each([
  ["one device", 0],
  ["three devices", 2],
] as const)("a model on %s", (_, count) => {
  const severalDo: typeof it | (() => void) = count > 0 ? it : () => {};
  let server: ReturnType<typeof start>;
  let workers: ReturnType<typeof start>[] = [];
  let address = "";
  let url = "";
  let client: OpenAI;

  beforeAll(async () => {
    const cluster = ["--workers", String(count), "--listen", "127.0.0.1:0"];
    const options = ["--port", "0", "--parallel", "2", "--ctx-size", "512", "--chat-template-file", templateFile];
    server = run("serve", model, ...options, ...(count > 0 ? cluster : []));
    if (count > 0) address = await said(server, /stellium join (\S+) --token/);
    workers = Array.from({ length: count }, (_, i) => run("join", address, "--name", `device ${i + 1}`));
    url = await said(server, /serving \S+ on (\S+)/);
    client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  });

  const idle = async () => {
    for (const end = Date.now() + 20_000; ; ) {
      const slots: { is_processing: boolean }[] = await json(fetch(`${url}/slots`));
      if (slots.every(({ is_processing: busy }) => !busy)) return;
      if (Date.now() > end) throw new Error(JSON.stringify(slots));
    }
  };

  it("chats, whole and streamed, and starts from what was cached", async () => {
    const whole = await client.chat.completions.create({ ...request, max_tokens: 8 });
    expect(whole.choices[0]!.message.content!.length).toBeGreaterThan(0);
    const streaming = { stream: true, stream_options: { include_usage: true } } as const;
    let [text, usage]: [string, OpenAI.CompletionUsage | null | undefined] = ["", undefined];
    for await (const chunk of await client.chat.completions.create({ ...request, ...streaming, max_tokens: 8 })) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    expect(text.length).toBeGreaterThan(0);
    expect(usage!.prompt_tokens_details!.cached_tokens).toBe(usage!.prompt_tokens - 1);
  });

  it("calls functions, and writes JSON by a schema, side by side", async () => {
    const tools = [zodFunction({ name: "forecast", parameters: weather })];
    // One call: how many this small model would make depends on how the CPU rounds.
    const oneCall = { tools, tool_choice: "required", parallel_tool_calls: false } as const;
    const [called, formatted] = await Promise.all([
      client.chat.completions.parse({ ...request, max_tokens: 300, ...oneCall }),
      client.chat.completions.parse({
        ...request,
        max_tokens: 300,
        response_format: zodResponseFormat(weather, "weather"),
      }),
    ]);
    expect(called.choices[0]!.finish_reason).toBe("tool_calls");
    expect(weather.parse(called.choices[0]!.message.tool_calls![0]!.function.parsed_arguments)).toBeTruthy();
    expect(weather.parse(formatted.choices[0]!.message.parsed)).toBeTruthy();
  });

  it("embeds texts, more than there are slots", async () => {
    const input = ["Rome", "A horse!", "A kingdom", "for a horse"];
    const { data } = await client.embeddings.create({ model: "any", input });
    expect(data.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    for (const { embedding } of data) expect(Math.hypot(...embedding)).toBeCloseTo(1, 4);
  });

  it("has its slots free when clients leave", async () => {
    const body = { ...request, ignore_eos: true, max_tokens: 400, stream: true } as const;
    const leave = async () => {
      for await (const { choices } of await client.chat.completions.create(body)) if (choices[0]!.delta.content) break;
    };
    await Promise.all([leave(), leave(), leave()]);
    await idle();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toMatch(/stellium_requests_total\{outcome="cancelled"\} 3\n/);
  });

  severalDo("tells every stream of a device that is lost, and lives on", async () => {
    const body = JSON.stringify({ prompt: "ROMEO:", temperature: 0, ignore_eos: true, max_tokens: 450, stream: true });
    const streams = [1, 2].map(() => fetch(`${url}/v1/completions`, { method: "POST", body }));
    const readers = (await Promise.all(streams)).map((response) => response.body!.getReader());
    for (const reader of readers) await reader.read();
    workers[0]!.child.kill("SIGKILL");
    for (const reader of readers) {
      const events = eventsOf(await rest(reader));
      expect(events.at(-1)!.data.error).toMatchObject({ type: "unavailable_error", code: "worker_lost" });
      expect(events.some(({ data }) => data.choices?.[0].finish_reason)).toBe(false);
    }
    run("join", address, "--name", "another device");
    const again = await client.chat.completions.create({ ...request, max_tokens: 8 });
    expect(again.usage!.completion_tokens).toBe(8);
    await idle();
  });

  it("ends on SIGTERM", async () => {
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
  });

  severalDo("starts again with the same devices, which have their slices", async () => {
    const before = slices();
    expect(before.length).toBeGreaterThan(0);
    server = run("serve", model, "--port", "0", "--ctx-size", "512", "--workers", String(count), "--listen", address);
    url = await said(server, /serving \S+ on (\S+)/);
    const { choices } = await json(fetch(`${url}/v1/completions`, { method: "POST", body: '{"prompt":"Oh"}' }));
    expect(choices[0].finish_reason).toBe("length");
    expect(slices()).toEqual(before);
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
  });
});

/** The files that devices have on their disks; one that comes anew is another. */
function slices(): [path: string, inode: bigint][] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name)).filter((path) => path.endsWith(".slice"));
  return paths.sort().map((path) => [path, statSync(path, { bigint: true }).ino]);
}

/** The events that are left, from the beginning of one. */
async function rest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    text += decoder.decode(value, { stream: true });
  }
  return text.slice(text.indexOf("data: "));
}
