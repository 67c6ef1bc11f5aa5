import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { clusterStatus } from "#stellium/cluster/status/schema";
import { FakeModel } from "../api/fakeModel.ts";
import { testServer } from "../api/harness.ts";
import { model, start, stellium, until } from "../cli/stellium.ts";
import { skipIf } from "../skip.ts";
import { Complaints, chromiumPath, launch } from "./browser.ts";

const required = process.env["STELLIUM_BROWSER_TESTS"] === "required";
const absent = skipIf(chromiumPath === undefined && !required, "no Chromium was found; STELLIUM_CHROMIUM can name one");

type Running = ReturnType<typeof start>;
const running: Running[] = [];
const complaints = new Complaints();
let browser: Browser;
let cacheDir: string;
let url: string;
/** By which devices join. */
let line: string;

function run(args: readonly string[], env: Record<string, string> = {}): Running {
  const started = start(args, { env: { ...env, STELLIUM_CACHE_DIR: cacheDir } });
  running.push(started);
  return started;
}

/** Starts a server, and returns where it listens, at once. */
async function serve(args: readonly string[]): Promise<string> {
  const { outcome, child } = run(["serve", model, "--port", "0", ...args]);
  await until(() => /dashboard: /.test(outcome.stderr) || child.exitCode !== null);
  const address = /http:\/\/[\d.]+:\d+/.exec(outcome.stderr)?.[0];
  if (address === undefined) throw new Error(outcome.stderr);
  return address;
}

async function open(options: Parameters<Browser["newContext"]>[0] = {}, at = url): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  complaints.watch(page, at);
  await page.goto(at);
  return page;
}

/** Has the tiny model write so many tokens, wherever it would end. */
async function tokens(context: BrowserContext, max_tokens: number): Promise<void> {
  await context.route("**/v1/chat/completions", (route) => {
    const body = { ...(route.request().postDataJSON() as object), ignore_eos: true, max_tokens };
    return route.continue({ postData: JSON.stringify(body) });
  });
}

async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

async function joinLine(page: Page): Promise<string> {
  return (await page.locator(".command code").textContent()) ?? "";
}

async function slotState(): Promise<string | undefined> {
  const slots = (await (await fetch(`${url}/slots`)).json()) as { state: string }[];
  return slots[0]?.state;
}

const answerOf = (page: Page) => page.getByRole("article", { name: "The model" }).last();
const stopButton = (page: Page) => page.getByRole("button", { name: "Stop" });

async function textLength(page: Page): Promise<number> {
  return ((await answerOf(page).locator(".prose").textContent()) ?? "").length;
}

/** Waits until there is more of the answer. Returns its length. */
async function grown(page: Page, before: number): Promise<number> {
  await expect.poll(() => textLength(page).catch(() => 0), { interval: 20, timeout: 30_000 }).toBeGreaterThan(before);
  return textLength(page);
}

/** A name that does something if it is taken for HTML. */
function marked(name: string): string {
  return `"'><img data-test src=x onerror="executed=1"><script data-test>executed=1</script>${name}`;
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe-core finds wrong with a page. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: axe-core came as a script
    const { violations } = await (globalThis as any).axe.run();
    return violations as { id: string; nodes: { target: string[]; failureSummary: string }[] }[];
  });
  return found.flatMap(({ id, nodes }) =>
    nodes.map(({ target, failureSummary }) => `${id} ${target}: ${failureSummary}`),
  );
}

describe("the dashboard", absent, () => {
  beforeAll(async () => {
    cacheDir = mkdtempSync(join(tmpdir(), "stellium-test-"));
    [browser, url] = await Promise.all([launch(), serve(["--workers", "2", "--listen", "127.0.0.1:0"])]);
    const page = await open();
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.getByRole("heading", { name: "Two devices to come." }).waitFor();
    const token = (await stellium(["token"], { env: { STELLIUM_CACHE_DIR: cacheDir } })).stdout.trim();
    line = (await joinLine(page)).replace("TOKEN", token);
    for (const name of ["first", "second"]) run([...line.split(" ").slice(1), "--name", name]);
    await page.getByRole("heading", { name: "Three devices, ready." }).waitFor();
  });
  afterAll(async () => {
    await browser?.close();
    for (const { child } of running) child.kill("SIGKILL");
    await Promise.all(running.map(({ ended }) => ended));
    rmSync(cacheDir, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
    expect(complaints.all.splice(0)).toEqual([]);
  });

  it("tells how devices join, and shows those that have", async () => {
    expect(line).toMatch(/^stellium join 127\.0\.0\.1:\d+ --token \S+$/);
    const page = await open();
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.getByRole("heading", { name: "Three devices, ready." }).waitFor();
    const devices = page.locator(".device");
    expect(await devices.count()).toBe(3);
    expect(await devices.getByRole("heading", { level: 3 }).allTextContents()).toEqual(
      expect.arrayContaining(["first", "second"]),
    );
    expect(await devices.first().textContent()).toMatch(/of 8 heads, .* of 768 FFN columns/);
    const told = clusterStatus.parse(await (await fetch(`${url}/cluster`)).json());
    expect(told.devices.map(({ share }) => share.weightFraction).reduce((a, b) => a + b)).toBeCloseTo(1);
  });

  it("writes answers as they come, and stops when it is told to", async () => {
    const page = await open();
    await tokens(page.context(), 400);
    await say(page, "Who is there?");
    const first = await grown(page, 0);
    await stopButton(page).waitFor();
    await grown(page, first);
    await page.getByRole("link", { name: "tokens/s" }).waitFor();
    await stopButton(page).click();
    await page.getByText(/^stopped · .*tokens\/s · first after .* · \d+ tokens$/).waitFor();
    const length = await textLength(page);
    await expect.poll(slotState, { timeout: 20_000 }).toBe("idle");
    expect(await textLength(page)).toBe(length);
  });

  it("writes an answer anew, takes other questions, and keeps conversations", async () => {
    const page = await open();
    await tokens(page.context(), 8);
    await say(page, "Speak, my lord!");
    await page.getByText(/tokens\/s · first after/).waitFor();
    await page.getByRole("button", { name: "Write this answer anew" }).click();
    await page.getByText(/tokens\/s · first after/).waitFor();
    expect(await page.getByRole("article").count()).toBe(2);
    await page.getByRole("button", { name: "Edit this message" }).click();
    await page.getByLabel("Your message").fill("Speak, *my lady*!");
    await page.getByRole("button", { name: "Ask again" }).click();
    await page.getByText(/tokens\/s · first after/).waitFor();
    await page.reload();
    expect(await page.getByRole("article", { name: "You" }).textContent()).toContain("Speak, *my lady*!");
    await page.getByRole("button", { name: "Delete “Speak, *my lady*!”" }).click();
    await page.getByText("What would you like to know?").waitFor();
    expect(await page.evaluate(`Object.keys(localStorage).filter((key) => key.includes("chat"))`)).toEqual([]);
  });

  it("sends what the settings say", async () => {
    const page = await open();
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("System prompt").fill("You are a king.");
    await page.getByLabel("Temperature").fill("0.25");
    await page.getByLabel("Longest answer").fill("3");
    await page.getByRole("button", { name: "Done" }).click();
    const request = page.waitForRequest("**/v1/chat/completions");
    await say(page, "Good morrow.");
    expect((await request).postDataJSON()).toMatchObject({
      temperature: 0.25,
      max_tokens: 3,
      messages: [
        { role: "system", content: "You are a king." },
        { role: "user", content: "Good morrow." },
      ],
    });
    await page.getByText(/· [123] tokens?$/).waitFor();
  });

  it("takes nothing that a model writes for HTML, and loads nothing for it", async () => {
    const page = await open();
    const hostile = [
      "<img src=https://evil.example/a onerror=alert(1)> **bold** <script>alert(1)</script>",
      "[run](javascript:alert(1)) ![picture](https://evil.example/b.png) [page](https://example.com/)",
      "| a | b |\n| - | - |\n| 1 | `<b>` |",
      "```js\nalert('&amp;')\n```",
    ].join("\n\n");
    const deep = `${">".repeat(5000)} deep`;
    const messages = [
      { id: "q", role: "user", content: "<b>hello</b>" },
      { id: "d", role: "assistant", content: deep },
      { id: "a", role: "assistant", reasoning: "hm", content: hostile },
    ];
    const kept = JSON.stringify({ id: "x", title: "x", updated: 1, messages });
    await page.evaluate(`localStorage.setItem("stellium.chat.x", ${JSON.stringify(kept)})`);
    await page.reload();
    const prose = answerOf(page).locator(".prose").last();
    await prose.getByText("<script>alert(1)</script>").waitFor();
    expect(await page.locator(".messages :is(img, script, iframe, b)").count()).toBe(0);
    expect(
      await prose.getByRole("link").evaluateAll((links) => links.map((link) => link.getAttribute("href"))),
    ).toEqual(["https://evil.example/b.png", "https://example.com/"]);
    expect(await prose.locator("pre").textContent()).toBe("alert('&amp;')");
    expect(await prose.locator("td").allTextContents()).toEqual(["1", "<b>"]);
    expect(await answerOf(page).locator("details").getAttribute("open")).toBeNull();
  });

  it("takes no name of a device or model for HTML, wherever names come from", async () => {
    const [text, name, host] = ["an event", "a device", "a host"].map(marked) as [string, string, string];
    const step = { computeMs: 1, diskMs: 1, networkMs: 1, cipherMs: 0, waitMs: 1 };
    const share = { heads: 4, kvHeads: 4, ffnColumns: 384, weightBytes: 1e6, weightFraction: 0.5 };
    const rates = { bytesSentPerSecond: 0, bytesReceivedPerSecond: 0, diskBytesPerSecond: 0 };
    const experts = { count: 6144, slots: 2048, hitRate: 0.81, bytesPerToken: 34e6 };
    const device = { name, host, threads: 1, share, memory: {}, experts, limit: "compute", step, ...rates } as const;
    const table = [
      [0, 1],
      [1, 0],
    ];
    const told = clusterStatus.parse({
      version: marked("a version"),
      at: Date.now(),
      state: "mending",
      model: {
        ...{ name: marked("a model"), architecture: marked("an architecture"), layers: 1, heads: 8, kvHeads: 8 },
        ...{ ffnColumns: 768, weightBytes: 2e6, context: 64 },
      },
      devices: [
        { rank: 0, state: "ready", ...device, timeline: { blocks: 1, rows: [[1, 1, 1, 1, 1]] } },
        { rank: 1, state: "lost", ...device, name: marked("a lost one") },
      ],
      speed: { tokensPerSecond: 1, promptTokensPerSecond: 1, stepMs: 1 },
      slots: [{ id: 0, state: "decode", promptTokens: 1, cachedTokens: 0, generatedTokens: 1, context: 64 }],
      queued: 0,
      bottleneck: { rank: 0, limit: "compute" },
      network: {
        ...{ wire: marked("a wire"), cipher: marked("a cipher"), asked: "auto", collective: marked("a collective") },
        ...{ why: marked("a reason"), payloadBytes: 1, predictions: [{ name: marked("a prediction"), ms: 1 }] },
        ...{ latencyMs: table, megabitsPerSecond: table },
      },
      join: { joined: 1, wanted: 1, local: false, address: marked("an address"), command: null },
      events: [{ id: 0, at: Date.now(), kind: "lost", device: name, text }],
    });
    const status = {
      current: async () => told,
      subscribe: (listener: (status: typeof told) => void) => {
        listener(told);
        return () => {};
      },
    };
    const served = new FakeModel({ pieces: [marked("an answer")] });
    const server = await testServer({ id: marked("an alias"), served, status });
    try {
      const page = await open({}, server.url);
      await page.getByRole("link", { name: "Cluster" }).click();
      await page.getByRole("heading", { level: 3, name: marked("a lost one") }).waitFor();
      expect(await page.getByText("81 % found in memory").count()).toBe(2);
      expect(await page.getByText(/^room for 2,048 of 6,144; 34\sMB read per token$/).count()).toBe(2);
      for (const each of [text, name, host, marked("a model"), marked("an address")])
        expect(await page.getByText(each).count(), each).toBeGreaterThan(0);
      expect(await page.locator("[data-test]").count()).toBe(0);
      await page.getByRole("link", { name: "Chat" }).click();
      await say(page, marked("a question"));
      await answerOf(page).getByText("an answer").waitFor();
      expect(await page.locator("[data-test]").count()).toBe(0);
      expect(await page.evaluate("globalThis.executed")).toBe(undefined);
    } finally {
      await server.close(0);
    }
  });

  it("opens from a link on a page of another site, which can use nothing else of the server", async () => {
    const other = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end(`<a href="${url}/#/cluster">dashboard</a> <a href="${url}/v1/models">models</a>`);
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const page = await (await browser.newContext()).newPage();
    const elsewhere = `http://localhost:${(other.address() as AddressInfo).port}/`;
    try {
      await page.goto(elsewhere);
      await page.evaluate(`fetch("${url}/v1/models", { mode: "no-cors" }).catch(() => {})`);
      await page.evaluate(
        `fetch("${url}/v1/completions", { mode: "no-cors", method: "POST", body: "{}" }).catch(() => {})`,
      );
      await page.getByRole("link", { name: "models" }).click();
      await page.getByText("pages of other sites may not use this server").waitFor();
      const counted = await (await fetch(`${url}/metrics`)).text();
      expect(counted).toContain('{route="models",status="403"} 2\n');
      expect(counted).toContain('{route="completions",status="403"} 1\n');
      await page.goto(elsewhere);
      await page.getByRole("link", { name: "dashboard" }).click();
      await page.getByRole("heading", { name: "Three devices, ready." }).waitFor();
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  it.each(["light", "dark"] as const)("can be used by everybody, in %s", async (colorScheme) => {
    const page = await open({ colorScheme });
    await tokens(page.context(), 8);
    await say(page, "Well met.");
    await page.getByText(/tokens\/s · first after/).waitFor();
    const background = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
    expect(background).toBe(colorScheme === "light" ? "rgb(247, 244, 237)" : "rgb(15, 18, 23)");
    expect(await violations(page)).toEqual([]);
    await page.getByRole("button", { name: "Settings" }).click();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press("Escape");
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.getByRole("heading", { name: "One step" }).waitFor();
    expect(await violations(page)).toEqual([]);
  });

  it("fits a phone, where its colours can be changed and conversations be listed", async () => {
    const page = await open({ viewport: { width: 360, height: 640 } });
    await tokens(page.context(), 8);
    const width = () => page.evaluate<number>("document.documentElement.scrollWidth");
    await say(page, `A word of great length: ${"honorificabilitudinitatibus".repeat(5)}`);
    await page.getByText(/tokens\/s · first after/).waitFor();
    expect(await width()).toBeLessThanOrEqual(360);
    await page.getByRole("button", { name: "Conversations" }).click();
    await page.getByRole("complementary", { name: "Conversations" }).waitFor();
    expect(await width()).toBeLessThanOrEqual(360);
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.getByRole("heading", { name: "One step" }).waitFor();
    expect(await width()).toBeLessThanOrEqual(360);
    await page.getByRole("button", { name: "Dark colours" }).click();
    await page.reload();
    await page.getByRole("button", { name: "Light colours" }).waitFor();
  });

  it("says within 5 s which device was lost, and when another has taken its place", async () => {
    const page = await open();
    await tokens(page.context(), 400);
    await say(page, "Tell a long tale.");
    await grown(page, 0);
    await page.getByRole("link", { name: "Cluster" }).click();
    const first = running.find(({ child }) => child.spawnargs.includes("first"))!;
    const killed = performance.now();
    first.child.kill("SIGKILL");
    await page.getByRole("alert").getByText("first was lost").waitFor();
    await page.locator(".device.lost").getByRole("heading", { name: "first" }).waitFor();
    expect(performance.now() - killed).toBeLessThan(5000);
    await page.getByRole("link", { name: "Chat" }).click();
    await page.getByText("the device first was lost").waitFor();
    await page.getByRole("link", { name: "Cluster" }).click();
    const third = '<img src=x onerror="executed=1">third';
    run([...line.split(" ").slice(1), "--name", third]);
    await page.getByText("all devices are there again").waitFor();
    await page.getByRole("heading", { name: "Three devices, ready." }).waitFor();
    await page.locator(".device").getByRole("heading", { name: third }).waitFor();
    expect(await page.evaluate("globalThis.executed")).toBe(undefined);
    await page.getByRole("link", { name: "Chat" }).click();
    await page.getByRole("button", { name: "Write this answer anew" }).click();
    await grown(page, 0);
    await stopButton(page).click();
    expect(await page.getByText("was lost").count()).toBe(0);
  });

  it("asks for the key, where there is one, and shows the rest to nobody without it", async () => {
    const locked = await serve(["--api-key", "open sesame"]);
    expect((await fetch(`${locked}/cluster`)).status).toBe(401);
    expect((await fetch(`${locked}/cluster/events`)).status).toBe(401);
    const page = await open({}, locked);
    await page.locator("input[type=password]").fill("wrong");
    await page.getByRole("button", { name: "Use this key" }).click();
    await page.getByText("did not take that key").waitFor();
    await page.locator("input[type=password]").fill("open sesame");
    await page.getByRole("button", { name: "Use this key" }).click();
    await page.getByRole("link", { name: "1 device, ready" }).waitFor();
    await page.reload();
    await page.getByRole("link", { name: "1 device, ready" }).waitFor();
    expect(await page.evaluate("JSON.stringify(localStorage)")).not.toContain("sesame");
    // A browser tells of every refusal.
    expect(complaints.all.splice(0).every((complaint) => /status of 401/.test(complaint))).toBe(true);
  });
});
