import { afterAll, describe, expect, it } from "vitest";
import { openChatTemplate } from "#stellium/serving/chatTemplate";
import { compileSource } from "#stellium/serving/grammar/compile";
import { compileGrammar, Sandbox } from "#stellium/serving/sandbox/sandbox";

/** One with time enough for all that ends, and one with little. */
const [sandbox, hasty] = [new Sandbox(60_000), new Sandbox(300)];
afterAll(() => Promise.all([sandbox[Symbol.asyncDispose](), hasty[Symbol.asyncDispose]()]));

const specials = { bosToken: "<s>", eosToken: "</s>" };
const named = { name: "the chat template of x.gguf", ...specials };
const failed = (reason: string) =>
  expect.objectContaining({
    code: "TEMPLATE_FAILED",
    status: 400,
    message: expect.stringMatching(`^the chat template of x\\.gguf failed: .*${reason}`),
  });
const render = async (source: string, content: unknown = "Hi", within = sandbox) =>
  (await openChatTemplate(within, { ...named, source })).render({ messages: [{ role: "user", content }] });

/** A text of 2^n characters, in `x`. */
const long = (n: number) =>
  `{% set ns = namespace(x='a') %}{% for i in range(${n}) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}`;
/** A list that has 2^n elements as text, and two in memory. */
const shared = `{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}`;

describe("a template", () => {
  it("renders in the sandbox, with what it is given", async () => {
    expect(await render("{{ bos_token }}{{ messages[0].content | upper }}")).toBe("<s>HI");
    const template = await openChatTemplate(sandbox, {
      ...named,
      source: "{{ strftime_now('%Y') }}{{ x }}{{ tools }}",
    });
    const input = { messages: [], now: new Date(2031, 5, 1), extra: { x: [1, { a: "b" }] } };
    expect(await template.render(input)).toBe('2031[1, {"a": "b"}]');
  });

  it("fails with its own reason, and for its syntax when it is opened", async () => {
    await expect(render("{{ raise_exception('roles must alternate') }}")).rejects.toThrow(
      failed("roles must alternate"),
    );
    await expect(openChatTemplate(sandbox, { ...named, source: "{% if %}" })).rejects.toThrow(failed(""));
  });

  it("is stopped where it takes too much memory, however much time there is", async () => {
    const kept = "{% set t = ns.x ~ i %}{% set ns.l = ns.l + [t | upper] %}";
    const source = `${long(20)}{% set ns.l = [] %}{% for i in range(100) %}${kept}{% endfor %}`;
    await expect(render(source)).rejects.toThrow(failed("it needed more than 32 MB of memory"));
  });

  it.each([
    ["loops in loops", "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"],
    ["a search", `${long(20)}{% for a in range(99999) %}{% if 'ab' in ns.x %}{% endif %}{% endfor %}`],
    [
      "lists of lists",
      "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = ns.l + [range(9999)] %}{% endfor %}",
    ],
    [
      "texts that are kept",
      `${long(20)}{% set ns.l = [] %}{% for i in range(999) %}{% set t = ns.x ~ i %}{% set ns.l = ns.l + [t | upper] %}{% endfor %}`,
    ],
  ])("is stopped where it takes too long, or too much memory: %s", async (_, source) => {
    await expect(render(source, "Hi", hasty)).rejects.toThrow(
      failed("it (ran longer than 0.3 seconds|needed more than 32 MB)"),
    );
  });

  it.each([
    ["macros that call themselves", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""],
    ["a text that doubles", `${long(40)}{{ ns.x }}`, "characters"],
    [
      "a block that is set",
      `${long(20)}{% set x %}{% for i in range(9999) %}{{ ns.x }}{% endfor %}{% endset %}{{ x | upper }}`,
      "",
    ],
    ["a list that holds itself twice", `${shared}{{ ns.x }}`, "JSON"],
    ["its JSON", `${shared}{{ ns.x | tojson }}`, "JSON"],
    ["its string", `${shared}{{ ns.x | string }}`, "JSON"],
    ["its elements, joined", `${shared}{{ ns.x | join }}`, "JSON"],
    ["a text with it", `${shared}{{ 'x' ~ ns.x }}`, "JSON"],
    ["a sum with it", `${shared}{{ ns.x + 'x' }}`, "JSON"],
    ["a comparison with it", `${shared}{{ ns.x == 'x' }}`, "JSON"],
    ["an error with it", `${shared}{{ raise_exception(ns.x) }}`, ""],
    ["a namespace that holds it", `${shared}{{ ns }}`, "JSON"],
    ["a wide indentation", "{{ [[1]] | tojson(indent=500000000) }}", "columns"],
    ["the same by name", "{{ [[1]] | tojson(**{'indent': 500000000}) }}", "columns"],
    ["a wide indentation of lines", "{{ ('a\\n' ~ 'b') | indent(500000000, true) }}", "columns"],
    ["one of a block", "{% filter indent(500000000, true) %}a{% endfilter %}", "columns"],
    ["long separators", `${long(19)}{{ range(99) | tojson(separators=(ns.x, ns.x)) }}`, "JSON"],
    ["a long text between elements", `${long(19)}{{ range(99) | join(ns.x) }}`, "JSON"],
    ["a long text in place of each character", `${long(15)}{{ ns.x.replace('a', ns.x) }}`, "characters"],
    ["the same by the filter", `${long(15)}{{ ns.x | replace('a', ns.x) }}`, "characters"],
    ["the same by another name", `${long(15)}{% set f = ns.x['replace'] %}{{ f('a', ns.x) }}`, "characters"],
    ["a text between characters", `${long(18)}{{ ns.x.replace('', 'b') }}`, "places"],
    ["a text cut at each character", `${long(18)}{{ ns.x.split('a') | length }}`, "places"],
    ["words of a long text", `${long(20)}{{ ns.x.split() | length }}`, "characters"],
    ["titles", `${long(20)}{{ ns.x | title | length }}`, "characters"],
    ["a slice of a long text", `${long(20)}{{ ns.x[1:] | length }}`, "characters"],
    ["a long path", `${long(12)}{{ [{'a': 1}] | map(attribute=ns.x) | list }}`, "characters"],
    ["a long format", `${long(12)}{{ strftime_now(ns.x) }}`, "characters"],
    ["many numbers", "{{ range(1000000000) | length }}", "numbers"],
    ["its own length", "{# x #}".repeat(50_000), "characters"],
  ])("ends, with a reason, whatever its author wrote: %s", async (_, source, reason) => {
    await expect(render(source)).rejects.toThrow(failed(reason));
    expect(await render("{{ messages[0].content }}")).toBe("Hi");
  });

  it("is not given more than it could hold", async () => {
    await expect(render("x", "x".repeat(2 ** 21 + 1))).rejects.toThrow(failed("2097152 characters"));
    await expect(render("x", Array(2 ** 16).fill(1))).rejects.toThrow(failed("65536 elements"));
    const cycle: unknown[] = [];
    cycle.push(cycle);
    await expect(render("x", cycle)).rejects.toMatchObject({ code: "BAD_USAGE" });
    expect(await render("{{ messages[0].content }}")).toBe("Hi");
  });
});

it("grammars are compiled as on this thread", async () => {
  const source = { kind: "schema", schema: { type: "object", properties: { a: { type: "integer" } } } } as const;
  expect(await compileGrammar(sandbox, source)).toEqual(compileSource(source));
  const invalid = compileGrammar(sandbox, { kind: "gbnf", gbnf: "root ::= x" });
  await expect(invalid).rejects.toMatchObject({ code: "GRAMMAR_INVALID", values: { reason: "there is no rule x" } });
});

it("jobs end when the sandbox is closed, whatever they do", async () => {
  const closing = new Sandbox();
  const source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
  const template = await openChatTemplate(closing, { ...named, source });
  const jobs = [template.render({ messages: [] }), template.render({ messages: [] })];
  const outcomes = Promise.allSettled(jobs);
  await closing[Symbol.asyncDispose]();
  for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: "ABORTED" } });
  await expect(template.render({ messages: [] })).rejects.toMatchObject({ code: "ABORTED" });
  const grammar = compileGrammar(closing, { kind: "gbnf", gbnf: 'root ::= "a"' });
  await expect(grammar).rejects.toMatchObject({ code: "ABORTED" });
});
