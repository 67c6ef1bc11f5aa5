import { request } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { model, start, stellium, until } from "../cli/stellium.ts";

type Running = ReturnType<typeof start>;
let running: Running | undefined;
afterEach(async () => {
  running?.child.kill("SIGKILL");
  await running?.ended;
});

/** Starts a server, and returns where it listens when it is ready. */
async function serve(args: readonly string[] = [], env: Record<string, string> = {}) {
  running = start(["serve", model, "--port", "0", ...args], { env });
  const { outcome, child } = running;
  await until(() => /serving /.test(outcome.stderr) || child.exitCode !== null);
  const url = /http:\/\/[\d.]+:\d+/.exec(outcome.stderr)?.[0];
  if (url === undefined) throw new Error(outcome.stderr);
  return { ...running, url };
}

const story = (more: object) => JSON.stringify({ prompt: "ROMEO:", temperature: 0, ignore_eos: true, ...more });

describe("stellium serve", () => {
  it("says where it is, answers, and on SIGTERM lets running requests end", async () => {
    const { child, outcome, ended, url } = await serve();
    expect(outcome.stderr).toMatch(
      /^OPENAI_BASE_URL=http:\/\/127\.0\.0\.1:\d+\/v1\ndashboard: http:\/\/127\.0\.0\.1:\d+\/\nserving stellium-shakespeare-5m-q8_0 on /,
    );
    const whole = await fetch(`${url}/v1/completions`, { method: "POST", body: story({ max_tokens: 400 }) });
    const { choices } = (await whole.json()) as { choices: { text: string; finish_reason: string }[] };
    expect(choices[0]!.finish_reason).toBe("length");
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      body: story({ max_tokens: 400, stream: true }),
    });
    child.kill("SIGTERM");
    const text = await response.text();
    expect(text).toMatch(/"finish_reason":"length".*\n\ndata: \[DONE\]\n\n$/);
    const { code, stdout } = await ended;
    expect([code, stdout]).toEqual([0, ""]);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  it("ends requests by an error where they take longer than the grace period", async () => {
    const { child, ended, url } = await serve(["--grace", "0"]);
    const bodies = Array.from({ length: 30 }, (_, i) => story({ prompt: `${i}`, max_tokens: 500, stream: true }));
    const answers = bodies.map(async (body) => {
      const response = await fetch(`${url}/v1/completions`, { method: "POST", body });
      return response.text();
    });
    await started(url);
    child.kill("SIGINT");
    const texts = await Promise.allSettled(answers);
    expect((await ended).code).toBe(0);
    const failed = texts.filter((answer) => answer.status === "rejected" || /"error":/.test(answer.value));
    expect(failed.length).toBeGreaterThan(0);
    for (const answer of texts) {
      if (answer.status === "fulfilled") expect(answer.value).toMatch(/\[DONE\]\n\n$|"error":\{[^\n]*\}\n*$/);
    }
  });

  it("logs objects where it is told to", async () => {
    const { child, outcome, ended, url } = await serve(["--log-json", "--alias", "bard"], {});
    const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    expect(models.data[0]!.id).toBe("bard");
    child.kill("SIGTERM");
    await ended;
    const lines = outcome.stderr
      .trimEnd()
      .split("\n")
      .filter((line) => line.startsWith("{"));
    const logged = lines.map((line) => JSON.parse(line));
    expect(logged).toContainEqual(expect.objectContaining({ level: "info", path: "/v1/models", status: 200 }));
    expect(logged[0]).toMatchObject({ message: expect.stringMatching(/^OPENAI_BASE_URL=/), url });
  });

  it("wants a key where others can reach it, and then from everyone", async () => {
    const refused = await stellium(["serve", model, "--host", "0.0.0.0"]);
    expect([refused.code, refused.stdout]).toEqual([2, ""]);
    expect(refused.stderr).toMatch(/^stellium: others can reach 0\.0\.0\.0: set --api-key .*\n$/);
    const { url, child, ended } = await serve(["--host", "0.0.0.0"], { STELLIUM_API_KEY: "secret" });
    const local = url.replace("0.0.0.0", "127.0.0.1");
    expect((await fetch(`${local}/v1/models`)).status).toBe(401);
    const headers = { authorization: "Bearer secret" };
    expect((await fetch(`${local}/v1/models`, { headers })).status).toBe(200);
    expect(await statusByName(local, "evil.example")).toBe(403);
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
  });

  it("says what is wrong with a port or a model, and ends", async () => {
    const { url } = await serve();
    const taken = await stellium(["serve", model, "--port", new URL(url).port]);
    expect(taken.code).toBe(1);
    expect(taken.stderr).toMatch(/^stellium: cannot listen on 127\.0\.0\.1:\d+: listen EADDRINUSE.*\n$/);
    const missing = await stellium(["serve", "nowhere.gguf", "--port", "0"]);
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining("cannot read nowhere.gguf")]);
  });

  it("serves a model that several devices share", async () => {
    const { url, child, ended } = await serve(["--devices", "2"]);
    const response = await fetch(`${url}/v1/completions`, { method: "POST", body: story({ max_tokens: 5 }) });
    expect(await response.json()).toMatchObject({ choices: [{ finish_reason: "length" }] });
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
  });
});

/** Waits until the server computes something. */
async function started(url: string): Promise<void> {
  for (;;) {
    const [slot] = (await (await fetch(`${url}/slots`)).json()) as { is_processing: boolean }[];
    if (slot!.is_processing) return;
  }
}

/** The status for a client that calls the server by a name; fetch would not have it. */
function statusByName(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(`${url}/health`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on("error", reject)
      .end();
  });
}
