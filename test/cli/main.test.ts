import { spawnSync } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { model, stellium } from "./stellium.ts";

const usage = (command: string) => ` See \`stellium ${command}\` for what there is.\n`;

describe("help", () => {
  it("lists the commands", async () => {
    const { code, stdout, stderr } = await stellium(["help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    await expect(stdout).toMatchFileSnapshot("help/stellium.txt");
    for (const args of [[], ["--help"], ["-h"]]) expect((await stellium(args)).stdout).toBe(stdout);
  });

  it.each([
    "run",
    "generate",
    "serve",
    "join",
    "devices",
    "token",
    "cache",
    "plan",
    "show",
    "pull",
    "ls",
    "rm",
    "ps",
    "demo",
  ])("explains %s", async (name) => {
    const { code, stdout } = await stellium(["help", name]);
    expect(code).toBe(0);
    await expect(stdout).toMatchFileSnapshot(`help/${name}.txt`);
    expect((await stellium([name, "--nonsense", "--help"])).stdout).toBe(stdout);
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(120);
  });
});

it("tells its version in little more time than Node takes to start", async () => {
  const ratios: number[] = [];
  for (let run = 0; run < 5; run++) {
    const bare = await timed(() => spawnSync(process.execPath, ["-e", "0"]));
    const version = await timed(async () => {
      expect(await stellium(["--version"])).toEqual({
        code: 0,
        signal: null,
        stdout: `${manifest.version}\n`,
        stderr: "",
      });
    });
    ratios.push(version / bare);
  }
  expect(Math.min(...ratios)).toBeLessThan(4);
});

async function timed(what: () => unknown): Promise<number> {
  const started = performance.now();
  await what();
  return performance.now() - started;
}

describe("bad usage has exit code 2 and one line", () => {
  const generate = ["generate", "-m", model];
  const help = usage("generate --help");
  it.each([
    [["genrate"], `there is no command genrate; the nearest is generate.${usage("help")}`],
    [["help", "xyzzy"], `there is no command xyzzy.${usage("help --help")}`.replace("help --help", "help")],
    [[...generate, "--tempp", "1"], `there is no option --tempp; the nearest is --temp.${help}`],
    [[...generate, "--predcit=1"], `there is no option --predcit; the nearest is --predict.${help}`],
    [[...generate, "-z"], `there is no option -z.${help}`],
    [["generate"], `no model was named; name one, or set STELLIUM_MODEL.${help}`],
    [[...generate, "another"], `the argument "another" has no meaning here.${help}`],
    [[...generate, "-p", "-n", "5"], `-p needs a value, as in -p TEXT.${help}`],
    [[...generate, "--kv"], `--kv needs a value, as in --kv TYPE.${help}`],
    [[...generate, "--json=yes"], `--json takes no value, and yes was given.${help}`],
    [[...generate, "-n", "0"], `--predict must be -1 or at least 1, not "0".${help}`],
    [[...generate, "-t", "0"], `--threads must be a whole number from 1 to 512, not "0".${help}`],
    [[...generate, "-c", "1.5"], `--ctx-size must be a whole number from 1 to 16777216, not "1.5".${help}`],
    [[...generate, "--temp", "-1"], `--temp must be a number from 0 to 100, not "-1".${help}`],
    [[...generate, "--top-p", ""], `--top-p must be a number from 0 to 1, not "".${help}`],
    [[...generate, "--kv", "q4"], `--kv must be one of f32, f16, q8_0, not "q4".${help}`],
    [
      [...generate, "--logit-bias", "x=1"],
      `--logit-bias must be ID=BIAS, a token's id and a number, not "x=1".${help}`,
    ],
    [[...generate, "-p", "a", "-f", "b"], `--prompt and --prompt-file were both given; give one.${help}`],
    [["run", model], `there is no message to answer, on stdin or as an argument.${usage("run --help")}`],
  ])("%j", async (args, said) => {
    expect(await stellium(args)).toEqual({ code: 2, signal: null, stdout: "", stderr: `stellium: ${said}` });
  });
});

describe("failure has exit code 1 and one line", () => {
  it("for a file that is not there", async () => {
    const { code, stdout, stderr } = await stellium(["generate", "-m", "nowhere.gguf"]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^stellium: cannot read nowhere\.gguf: .*\. Check the path and its permissions\.\n$/);
  });

  it("for a file that is no model", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "stellium-cli-")), "m.gguf");
    await writeFile(path, "not a model\n");
    for (const args of [["show"], ["generate", "-m"], ["run", "-p", "hi", "-m"]]) {
      const { code, stderr } = await stellium([...args, path]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^stellium: .* is not a valid GGUF file: .*\. Download the file again; .*\n$/);
    }
  });

  it("for a context that is too small, with the numbers", async () => {
    expect(await stellium(["generate", "-m", model, "-p", "ROMEO:", "-n", "600"])).toEqual({
      code: 1,
      signal: null,
      stdout: "",
      stderr:
        "stellium: the prompt has 3 tokens and 600 more were asked for, but the context holds 512. " +
        "Shorten the prompt, ask for fewer tokens (-n), or enlarge the context (-c).\n",
    });
  });

  it("shows where it came from under STELLIUM_LOG=debug", async () => {
    const { stderr } = await stellium(["show", "nowhere.gguf"], { env: { STELLIUM_LOG: "debug" } });
    expect(stderr).toContain("    at ");
  });
});

it("shows a model", async () => {
  const { code, stdout } = await stellium(["show", model, "--json"]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ architecture: "llama", support: { supported: true } });
});
