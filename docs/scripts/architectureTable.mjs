import { readFile, writeFile } from "node:fs/promises";
import { architectures } from "../../dist/model/architectures.js";

const page = new URL("../models.md", import.meta.url);
const [begin, end] = ["<!-- architectures -->", "<!-- /architectures -->"];

/** The page with the table of the architectures that run. @returns {Promise<string>} */
export async function modelsPage() {
  const text = await readFile(page, "utf8");
  const [before, rest = ""] = text.split(begin);
  const [, after] = rest.split(end);
  if (after === undefined) throw new Error(`${page.pathname} has no ${begin} and ${end}`);
  const rows = architectures.map(({ name, models }) => `| \`${name}\` | ${models} |`);
  return `${before}${begin}\n\n| \`general.architecture\` | models |\n| --- | --- |\n${rows.join("\n")}\n\n${end}${after}`;
}

if (import.meta.filename === process.argv[1]) await writeFile(page, await modelsPage());
