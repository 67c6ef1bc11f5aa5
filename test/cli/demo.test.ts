import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { skipUnless } from "../skip.ts";
import { environment, program, stellium, until } from "./stellium.ts";

let folder: string;
let env: Record<string, string>;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  env = { STELLIUM_CACHE_DIR: folder };
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("the demo", () => {
  it("plays a scene on four devices and says what each had of the model, and what it took", async () => {
    // Measured links decide which collective adds up, each in another order; so another start might write another scene.
    const args = ["demo", "-n", "40", "--seed", "6", "--collective", "exchange"];
    const scene = await stellium(args, { env });
    expect(scene.code).toBe(0);
    expect(scene.stdout).toMatch(/^ROMEO:.{60,}\n$/s);
    const share = "2 of 8 KV heads, 192 of 768 FFN columns; weights \\d\\S* MB, memory \\d\\S* MB\n";
    const rows = [
      "\ndevices +4 on this machine.*:\n",
      ` +this process, with the text +${share}`,
      ...[1, 2, 3].map((worker) => ` +worker process ${worker} +${share}`),
      "speed +\\d+ tokens/s; the first of \\d+ came \\d+ ms after the start\n",
      "seed +6 .*\n[^]*--workers 1",
    ];
    expect(scene.stderr).toMatch(new RegExp(`^${rows.join("")}`));
    expect((await stellium(args, { env })).stdout).toBe(scene.stdout);
  });

  it("does with one device on request", async () => {
    const scene = await stellium(["demo", "-n", "5", "--seed", "6", "--devices", "1"], { env });
    expect(scene.code).toBe(0);
    expect(scene.stderr).toMatch(/^\nmemory +\d.*\nspeed +\d+ tokens\/s.*\nseed +6 /);
  });

  it("does with one device, and says so, where the others cannot be had", async () => {
    const script = "data:text/javascript,if(process.argv[1].endsWith('localWorker.js'))process.exit(3)";
    const unable = { NODE_OPTIONS: `--import "${script}"` };
    const scene = await stellium(["demo", "-n", "5", "--seed", "6"], { env: unable });
    expect(scene.code).toBe(0);
    expect(scene.stderr).toMatch(/^4 devices cannot share this machine: .*local.*\. One does it alone\.\n/);
    expect(scene.stdout).toMatch(/^ROMEO:/);
    const asked = await stellium(["demo", "-n", "5", "--devices", "2"], { env: unable });
    expect(asked).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^stellium: the device local 1/),
    });
  });
});

describe("an end from outside", skipUnless("linux"), () => {
  /** Ends the demo when it has written so many characters, or after so many milliseconds. */
  async function end(when: { characters: number } | { ms: number }, how: (pid: number) => void): Promise<string> {
    const mark = `${Math.random()}`;
    const child = spawn(process.execPath, [program, "demo", "-n", "-1"], {
      env: { ...environment(), ...env, STELLIUM_TEST_MARK: mark },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    if ("ms" in when) await new Promise((resolve) => setTimeout(resolve, when.ms));
    else await until(() => out.length >= when.characters);
    const gone = new Promise((resolve) => child.once("close", resolve));
    how(child.pid!);
    await gone;
    await until(() => processesWith(mark) === 0);
    return err;
  }

  function processesWith(mark: string): number {
    const environments = readdirSync("/proc").map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "latin1");
      } catch {
        return "";
      }
    });
    return environments.filter((text) => text.includes(`STELLIUM_TEST_MARK=${mark}`)).length;
  }

  // A terminal's Ctrl-C goes to all processes.
  const interrupt = (pid: number) => void process.kill(-pid, "SIGINT");

  it.each([0, 100, 250, 500, 900])("by Ctrl-C after %d ms leaves nothing behind", async (ms) => {
    expect(await end({ ms }, interrupt)).toBe("");
  });

  it("by Ctrl-C or a kill while it writes leaves nothing behind", async () => {
    expect(await end({ characters: 200 }, interrupt)).toBe("");
    await end({ characters: 200 }, (pid) => process.kill(pid, "SIGKILL"));
  });
});
