// Joins the script of each thread, `*Thread.ts`, and all that it imports into one file, `dist/threads/*.js`. Takes the
// folder of the built files, `dist` if absent.
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { rolldown } from "rolldown";

const source = join(import.meta.dirname, "..");
const built = process.argv[2] ?? join(source, "../dist");
const ending = "Thread.ts";

const files = await readdir(source, { recursive: true });
await Promise.all(files.filter((file) => file.endsWith(ending)).map(joinScript));

/** @param {string} file */
async function joinScript(file) {
  const bundle = await rolldown({
    input: join(built, file.replace(/ts$/, "js")),
    platform: "node",
    external: /^[^./]/,
    checks: { pluginTimings: false },
  });
  const target = join(built, "threads", `${basename(file, ending)}.js`);
  await bundle.write({ file: target, format: "esm", comments: false });
  await bundle.close();
}
