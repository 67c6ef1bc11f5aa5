import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";

const usual = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];

/** Where the browser is: `STELLIUM_CHROMIUM`, or one of the usual places; undefined where there is none. */
export const chromiumPath = [process.env["STELLIUM_CHROMIUM"] ?? "", ...usual].find((path) => existsSync(path));

/** Starts the browser, without a window. */
export function launch(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("there is no Chromium; STELLIUM_CHROMIUM can say where it is");
  return chromium.launch({ executablePath: chromiumPath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** What a page should never do: write errors to the console, throw, ask anybody but its own server. */
export class Complaints {
  readonly all: string[] = [];

  watch(page: Page, origin: string): void {
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.all.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.all.push(`thrown: ${error.message}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${origin}/`) && !url.startsWith("data:")) this.all.push(`request: ${url}`);
    });
  }
}
