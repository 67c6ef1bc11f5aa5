import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { skipIf } from "../skip.ts";
import { environment, model, program, stellium, until } from "./stellium.ts";

const chat = (args: string[], input = "") => stellium(["run", model, "--seed", "5", ...args], { input });

describe("one message", () => {
  it("comes as an argument or from stdin, and is answered on stdout", async () => {
    const [argument, piped] = await Promise.all([chat(["Who are you?"]), chat([], "Who are you?\n")]);
    expect(argument).toMatchObject({ code: 0, stderr: "" });
    expect(argument.stdout).toMatch(/^.+[^\n]\n$/s);
    expect(piped).toEqual(argument);
  });

  it("is told apart from the system's", async () => {
    const [without, with_] = await Promise.all([chat(["Who are you?"]), chat(["Who are you?", "--system", "A king."])]);
    expect(with_.code).toBe(0);
    expect(with_.stdout).not.toBe(without.stdout);
  });

  it("may be answered by another template, whose own errors are told", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "stellium-cli-")), "template.jinja");
    await writeFile(path, "{{ raise_exception('no such role') }}");
    expect(await chat(["Hello", "--chat-template-file", path])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^stellium: the chat template in .*template\.jinja failed: .*no such role.*\n$/),
    });
  });

  it("that does not fit is refused with the numbers", async () => {
    expect(await chat(["x ".repeat(600)])).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^stellium: the prompt has \d+ tokens .* but the context holds 512\. .*\n$/),
    });
  });
});

const scriptExists = spawnSync("script", ["--version"]).status === 0;

/** A conversation through a pseudo-terminal, by util-linux's script(1). */
function converse(...args: string[]) {
  // A shell that stays between would take Ctrl-C too, and end with its own exit code.
  const command = ["exec", process.execPath, program, "run", model, "--seed", "5", ...args].join(" ");
  const child = spawn("script", ["-qec", command, "/dev/null"], { env: { ...environment(), TERM: "xterm" } });
  const talk = { output: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (talk.output += text));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  onTestFinished(() => void child.kill("SIGKILL"));
  let seen = 0;
  return {
    ended,
    /** Waits for text that came after what was waited for before; returns what stood between. */
    async wait(text: string): Promise<string> {
      await until(() => talk.output.includes(text, seen));
      const from = seen;
      seen = talk.output.indexOf(text, seen) + text.length;
      return talk.output.slice(from, seen);
    },
    type: (text: string) => void child.stdin.write(text),
  };
}

const prompt = "> \u001b[3G";
const endless = ["--logit-bias", "1023=-inf", "-c", "30000"];

describe("a conversation in the terminal", skipIf(!scriptExists, "there is no script command (util-linux)"), () => {
  it("remembers, tells its speed, and reuses what it computed", async () => {
    const { wait, type, ended } = converse("--verbose");
    await wait(prompt);
    type("Hello\r");
    expect(await wait("/s\r\n")).not.toContain("cached");
    await wait(prompt);
    type("And you?\r");
    const cached = Number(/\((\d+) more were cached\)/.exec(await wait("answer"))?.[1]);
    expect(cached).toBeGreaterThan(10);
    await wait(prompt);
    type("/stats\r");
    expect(await wait("memory")).toContain("of 512 tokens");
    await wait(prompt);
    type("/clear\r");
    await wait("forgotten");
    await wait(prompt);
    type("/bye\r");
    expect(await ended).toBe(0);
  });

  it("takes messages of several lines, and commands", async () => {
    const { wait, type, ended } = converse("-n", "4");
    await wait(prompt);
    type('"""one\rtwo\rthree"""\r');
    await wait("three");
    await wait(prompt);
    type("/hlp\r");
    await wait("the nearest is /help");
    await wait(prompt);
    type("/system Be brief.\r");
    await wait("is set");
    await wait(prompt);
    type("/system\r");
    await wait("\nBe brief.\r\n");
    await wait(prompt);
    type("\u0004");
    expect(await ended).toBe(0);
  });

  it("stops an answer at Ctrl-C, and leaves at the next", async () => {
    const { wait, type, ended } = converse(...endless);
    await wait(prompt);
    type("Hello\r");
    await wait("Hello");
    for (let line = 0; line < 3; line++) await wait("\n");
    type("\u0003");
    await wait("once more leaves");
    await wait(prompt);
    type("/stats\r");
    await wait("memory");
    await wait(prompt);
    type("\u0003");
    await wait("once more leaves");
    await wait(prompt);
    type("\u0003");
    expect(await ended).toBe(0);
  });

  it("drops the oldest turns where the context is full, and says so", async () => {
    const { wait, type, ended } = converse("-n", "20");
    for (let turn = 0; turn < 4; turn++) {
      await wait(prompt);
      type(`${"to be or not to be ".repeat(16)}\r`);
    }
    await wait("the oldest turn was dropped");
    await wait(prompt);
    type("\u0004");
    expect(await ended).toBe(0);
  });
});
