import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { modelsPage } from "../../docs/scripts/architectureTable.mjs";
import { troubleshootingPage } from "../../docs/scripts/errorTable.mjs";

const root = join(import.meta.dirname, "../..");
const pages = ["README.md", ...pagesIn("docs"), ...pagesIn("models")];

function pagesIn(folder: string): string[] {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  return files.filter((file) => file.endsWith(".md")).map((file) => join(folder, file));
}

/** The anchor that a heading gets where Markdown is shown, on the pages we know. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}

function anchors(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading!));
}

/** Links of a page into this repository, outside of its code blocks. */
function links(page: string): string[] {
  const text = readFileSync(join(root, page), "utf8").replace(/^```.*?^```/gms, "");
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!).filter((target) => !/^\w+:/.test(target));
}

it("documents all that programs import", () => {
  const typedoc = join(root, "node_modules/typedoc/bin/typedoc");
  const { status, stdout } = spawnSync(process.execPath, [typedoc, "--emit", "none"], { cwd: root, encoding: "utf8" });
  expect({ status, stdout }).toMatchObject({ status: 0 });
});

it("lists every error with what helps", async () => {
  expect(readFileSync(join(root, "docs/troubleshooting.md"), "utf8")).toBe(await troubleshootingPage());
});

it("lists every architecture that runs", async () => {
  expect(readFileSync(join(root, "docs/models.md"), "utf8")).toBe(await modelsPage());
});

it.each(pages)("links of %s lead somewhere", (page) => {
  for (const link of links(page)) {
    const [path = "", anchor] = link.split("#");
    const file = path === "" ? join(root, page) : join(root, dirname(page), path);
    expect(existsSync(file), link).toBe(true);
    if (anchor !== undefined) expect(anchors(file), link).toContain(anchor);
  }
});
