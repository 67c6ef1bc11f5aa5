import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { model, start, until } from "../cli/stellium.ts";
import { ask } from "./harness.ts";

const cap = 400e6;
const grow = (step: string, times: number) =>
  `{% set ns = namespace(x=[1]) %}{% for i in range(${times}) %}{% set ns.x = ${step} %}{% endfor %}`;

/** What a model's author may write; `true` for what runs until it is stopped. */
const templates: Record<string, [source: string, reason: RegExp, endless?: true]> = {
  "nested loops": [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    /ran longer|MB of memory/,
    true,
  ],
  "a list of ranges": [grow("ns.x + [range(100000)]", 100_000), /MB of memory|ran longer/],
  "a text of texts": [`{{ ${Array(64).fill("'x'").join(" ~ ")} }}${grow("ns.x ~ ns.x ~ ns.x", 40)}`, /characters/],
  "a list that holds itself twice": [`${grow("[ns.x, ns.x]", 40)}{{ ns.x }}`, /JSON of more/],
  "a wide indentation": ["{{ [[1]] | tojson(indent=500000000) }}", /columns/],
};
const cases = Object.entries(templates).map(
  ([name, [source]]) => `{% elif messages[0].content == '${name}' %}${source}`,
);
const template = `{% if messages[0].content == 'Hello' %}Hello{{ cases }}${cases.join("")}{% endif %}`;

const schema = (given: object) => ({
  response_format: { type: "json_schema", json_schema: { name: "x", schema: given } },
});
const nested = (depth: number): object => (depth === 0 ? {} : { type: "array", items: nested(depth - 1) });
const bias = Object.fromEntries(Array.from({ length: 30_000 }, (_, token) => [token, 1]));
const story = (more: object) => ({ prompt: "ROMEO:", max_tokens: 8, temperature: 0, ...more });

/** Path, body, and the status of the answer. */
const requests: [name: string, path: string, body: unknown, status: number][] = [
  ["grammar of too many readings", "completions", story({ grammar: `root ::= ${"[a-z]* ".repeat(30_000)}` }), 400],
  ["grammar of many repetitions", "completions", story({ grammar: "root ::= ([a-z]{1000}){1000}" }), 400],
  ["grammar that costs at every token", "completions", story({ grammar: 'root ::= ([a-z]?){4000} "!"' }), 200],
  ["grammar of many alternatives", "completions", story({ grammar: `root ::= ${'"a" | '.repeat(60_000)}"b"` }), 400],
  ["grammar that is too long", "completions", story({ grammar: "#".repeat(3_000_000) }), 400],
  ["schema that nests", "completions", story(schema(nested(120))), 400],
  [
    "schema of many properties",
    "completions",
    story(schema({ properties: Object.fromEntries(Object.entries(bias).map(([i]) => [`p${i}`, {}])) })),
    400,
  ],
  ["pattern of patterns", "completions", story(schema({ type: "string", pattern: "^(((a?){999}){999}){999}$" })), 400],
  ["half a million arrays", "chat/completions", `{"messages":[${"[],".repeat(500_000)}1]}`, 400],
  ["arrays in arrays", "chat/completions", `{"messages":${"[".repeat(500_000)}`, 400],
  [
    "a hundred thousand fields",
    "chat/completions",
    `{${Object.keys(bias)
      .map((i) => `"a${i}":1,"b${i}":2,"c${i}":3`)
      .join()}}`,
    400,
  ],
  ["messages without a role", "chat/completions", { messages: Array(10_000).fill({}) }, 400],
  ["parts that are no parts", "chat/completions", ask(Array(9000).fill(1)), 400],
  ["a long text", "chat/completions", ask("x".repeat(8_000_000)), 400],
  ["a bias for every token and more", "completions", story({ logit_bias: bias }), 400],
  ["a million tokens", "completions", `{"prompt":[${"1,".repeat(1_000_000)}1]}`, 400],
  ["names of control tokens", "tokenize", { content: "<|eos|>".repeat(9000) }, 200],
  ["many embeddings", "embeddings", { input: Array(600).fill("To be, or not to be") }, 200],
  ["too many embeddings", "embeddings", { input: Array(100_000).fill("x") }, 400],
];

let server: ReturnType<typeof start>;
let url: string;

beforeAll(async () => {
  const file = join(mkdtempSync(join(tmpdir(), "stellium-bombs-")), "bombs.jinja");
  writeFileSync(file, template);
  const args = [
    "--port",
    "0",
    "--parallel",
    "3",
    "--memory",
    String(cap),
    "--chat-template-file",
    file,
    "--grace",
    "1",
  ];
  server = start(["serve", model, ...args]);
  await until(() => /serving /.test(server.outcome.stderr) || server.child.exitCode !== null);
  url = /http:\/\/[\d.]+:\d+/.exec(server.outcome.stderr)![0];
});
afterAll(async () => {
  server.child.kill("SIGKILL");
  await server.ended;
});

async function post(path: string, body: unknown) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`${url}/v1/${path}`, { method: "POST", body: text });
  return { status: response.status, body: await response.text() };
}

/** What a stream writes, without the identity of its chunks. */
async function streamed(): Promise<string[]> {
  const { body } = await post("completions", story({ max_tokens: 200, stream: true, ignore_eos: true }));
  return [...body.matchAll(/"text":("(?:[^"\\]|\\.)*")/g)].map(([, text]) => JSON.parse(text!) as string);
}

describe("a server that is sent what costs the most", () => {
  let reference: string[];
  let bombing = true;
  let beside: Promise<number>;

  beforeAll(async () => {
    reference = await streamed();
    beside = streamBeside();
  });

  /** Streams as long as there are bombs. Returns how many times. */
  async function streamBeside(): Promise<number> {
    let count = 0;
    for (; bombing; count++) expect(await streamed()).toEqual(reference);
    return count;
  }

  it.each(Object.entries(templates))("refuses a template of %s, naming it", async (name, [, reason, endless]) => {
    let answered = false;
    const answer = post("chat/completions", ask(name)).finally(() => {
      answered = true;
    });
    const health = await fetch(`${url}/health`);
    expect([health.status, answered]).toEqual([200, endless === true ? false : answered]);
    const { status, body } = await answer;
    expect([status, JSON.parse(body).error.code]).toEqual([400, "template_failed"]);
    expect(body).toMatch(/the chat template in .*bombs\.jinja failed/);
    expect(body).toMatch(reason);
  });

  it.each(requests)("answers a request of %s", async (_, path, body, status) => {
    const answer = await post(path, body);
    expect(answer.status, answer.body.slice(0, 500)).toBe(status);
  });

  it("loses no token of what it streams meanwhile", async () => {
    bombing = false;
    expect(reference.join("").length).toBeGreaterThan(200);
    expect(await beside).toBeGreaterThan(0);
  });

  it("takes no more memory than its plan", () => {
    const status = `/proc/${server.child.pid}/status`;
    const peak = existsSync(status) ? Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync(status, "utf8"))![1]) * 1024 : 0;
    expect(peak).toBeLessThan(cap);
  });

  it("answers as before, and ends when it is told to, while a template runs", async () => {
    expect(await post("apply-template", ask("Hello"))).toEqual({ status: 200, body: '{"prompt":"Hello"}' });
    const running = post("chat/completions", ask("nested loops")).catch(() => {});
    expect((await fetch(`${url}/health`)).status).toBe(200);
    server.child.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
    await running;
  });
});
