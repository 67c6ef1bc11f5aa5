// Pictures of the dashboard for the documentation: a live cluster of three processes on this machine.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const root = join(import.meta.dirname, "..");
const { values } = parseArgs({
  options: {
    model: { type: "string", default: join(root, "models/stellium-shakespeare-5m-q8_0.gguf") },
    out: { type: "string", default: join(root, "docs/images") },
    browser: { type: "string", default: process.env["STELLIUM_CHROMIUM"] ?? "/usr/bin/chromium" },
  },
});
const cacheDir = mkdtempSync(join(tmpdir(), "stellium-screenshots-"));
/** How the others are called, and what they may take. */
const workers = { "old laptop": "300MB", "raspberry pi": "250MB" };
const questions = ["Who goes there?", "What news from the king?", "And what says the queen?"];
/** @type {import("node:child_process").ChildProcess[]} */
const children = [];

try {
  await takePictures();
} finally {
  for (const child of children) child.kill();
  rmSync(cacheDir, { recursive: true, force: true });
}

async function takePictures() {
  mkdirSync(values.out, { recursive: true });
  const browser = await chromium.launch({ executablePath: values.browser, args: ["--no-sandbox"] });
  try {
    const url = await cluster();
    await waitUntilReady(url);
    await pictures(browser, url);
  } finally {
    await browser.close();
  }
}

/**
 * Starts three devices.
 *
 * @returns {Promise<string>} where the API is
 */
function cluster() {
  const token = "5vq8m2x0c7d1jz4kwt9b6rh3na";
  const listen = ["--workers", "2", "--listen", "127.0.0.1:7719", "--shares", "4,3,2", "--memory", "500MB"];
  const server = run(["serve", values.model, "--port", "0", ...listen], token);
  for (const [name, memory] of Object.entries(workers)) {
    run(["join", "127.0.0.1:7719", "--name", name, "--memory", memory], token);
  }
  return new Promise((resolve, reject) => {
    let said = "";
    server.stderr.on("data", (text) => {
      said += text;
      const url = /http:\/\/[\d.]+:\d+/.exec(said)?.[0];
      if (url !== undefined) resolve(url);
    });
    server.on("exit", () => reject(new Error(`the server ended: ${said}`)));
  });
}

/**
 * @param {string[]} args
 * @param {string} token
 */
function run(args, token) {
  const env = { ...process.env, STELLIUM_TOKEN: token, STELLIUM_CACHE_DIR: cacheDir, STELLIUM_THREADS: "1" };
  const child = spawn(process.execPath, [join(root, "dist/cli/main.js"), ...args], { env });
  children.push(child);
  return child;
}

/** @param {string} url */
async function waitUntilReady(url) {
  while (!(await fetch(`${url}/health`)).ok) await new Promise((resolve) => setTimeout(resolve, 100));
}

/**
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 */
async function pictures(browser, url) {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1200, height: 800 } });
    await page.route("**/v1/chat/completions", (route) => {
      const body = { ...route.request().postDataJSON(), max_tokens: 90, seed: 5, temperature: 0.8 };
      return route.continue({ postData: JSON.stringify(body) });
    });
    await page.goto(`${url}/#/cluster`);
    const stop = keepBusy(url);
    await page.waitForTimeout(45_000);
    await page.screenshot({ path: join(values.out, `cluster-${colorScheme}.png`), fullPage: true });
    await stop();
    await page.getByRole("link", { name: "Chat" }).click();
    for (const [i, question] of questions.entries()) {
      await page.getByLabel("Message", { exact: true }).fill(question);
      await page.getByRole("button", { name: "Send" }).click();
      await page.getByRole("button", { name: "Write this answer anew" }).nth(i).waitFor();
    }
    await page.screenshot({ path: join(values.out, `chat-${colorScheme}.png`) });
    await page.setViewportSize({ width: 390, height: 780 });
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.screenshot({ path: join(values.out, `phone-${colorScheme}.png`) });
    await page.close();
  }
}

/**
 * Has the cluster write, until the returned function is called.
 *
 * @param {string} url
 */
function keepBusy(url) {
  const stop = new AbortController();
  const body = JSON.stringify({ prompt: "ROMEO:", max_tokens: 400, ignore_eos: true });
  const writing = (async () => {
    while (!stop.signal.aborted) {
      await fetch(`${url}/v1/completions`, { method: "POST", body, signal: stop.signal }).then((answer) =>
        answer.text(),
      );
    }
  })().catch(() => {});
  return async () => {
    stop.abort();
    await writing;
  };
}
