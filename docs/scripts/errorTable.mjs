import { readFile, writeFile } from "node:fs/promises";
import { errorTable } from "../../dist/errors.js";

const page = new URL("../troubleshooting.md", import.meta.url);
const [begin, end] = ["<!-- errors -->", "<!-- /errors -->"];

/** The page with the table of errors as it is in the program now. @returns {Promise<string>} */
export async function troubleshootingPage() {
  const text = await readFile(page, "utf8");
  const [before, rest = ""] = text.split(begin);
  const [, after] = rest.split(end);
  if (after === undefined) throw new Error(`${page.pathname} has no ${begin} and ${end}`);
  return `${before}${begin}\n\n${Object.entries(errorTable).map(entry).join("\n\n")}\n\n${end}${after}`;
}

/** @param {[string, { status: number, message: string, hint: string }]} entry */
function entry([code, { status, message, hint }]) {
  return `### ${code}\n\n> ${withNames(message)}\n\n${withNames(hint)} (HTTP ${status})`;
}

/** Placeholders as words that Markdown shows. @param {string} text */
function withNames(text) {
  return text.replace(/\{(\w+)\}/g, "*$1*");
}

if (import.meta.filename === process.argv[1]) await writeFile(page, await troubleshootingPage());
