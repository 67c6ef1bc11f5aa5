// Bundles the dashboard into dist/web: one page, one script, one style sheet, nothing from elsewhere.
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const source = dirname(fileURLToPath(import.meta.url));
const target = join(source, "../../dist/web");

const fonts = join(source, "../../node_modules/@fontsource/newsreader");

await mkdir(target, { recursive: true });
await Promise.all([
  bundleScript(),
  joinStyles(),
  copyFile(join(source, "index.html"), join(target, "index.html")),
  copyFile(join(fonts, "files/newsreader-latin-400-normal.woff2"), join(target, "newsreader-400.woff2")),
  copyFile(join(fonts, "files/newsreader-latin-600-normal.woff2"), join(target, "newsreader-600.woff2")),
  copyFile(join(fonts, "LICENSE"), join(target, "newsreader-LICENSE.txt")),
]);

async function bundleScript() {
  const bundle = await rolldown({
    input: join(source, "main.tsx"),
    platform: "browser",
    tsconfig: join(source, "tsconfig.json"),
    checks: { pluginTimings: false },
  });
  await bundle.write({ file: join(target, "dashboard.js"), format: "esm", minify: true });
  await bundle.close();
}

/** In order of their names. */
async function joinStyles() {
  const folder = join(source, "styles");
  const names = (await readdir(folder)).sort();
  const sheets = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  const text = sheets
    .join("\n")
    .replace(/\/\*.*?\*\//gs, "")
    .replace(/\s+/g, " ")
    .replace(/ ?([{};,]) ?/g, "$1");
  await writeFile(join(target, "dashboard.css"), text);
}
