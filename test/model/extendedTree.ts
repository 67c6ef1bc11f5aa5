import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The built tree in a folder of its own, with files added and lists made longer as somebody would in `src`. */
export class ExtendedTree implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "stellium-test-"));
  /** What was written, by paths within `src`. */
  readonly sources = new Map<string, string>();

  constructor() {
    const native = join(root, "dist", "native");
    cpSync(join(root, "dist"), join(this.folder, "dist"), { recursive: true, filter: (path) => path !== native });
    // Types that are handed to the native libraries have names, which a process may give only once.
    symlinkSync(native, join(this.folder, "dist", "native"), "junction");
    cpSync(join(root, "package.json"), join(this.folder, "package.json"));
    symlinkSync(join(root, "node_modules"), join(this.folder, "node_modules"), "junction");
  }

  /** Adds a file of `src`, or puts another one in its place. */
  write(path: string, source: string): void {
    const { options } = ts.convertCompilerOptionsFromJson(
      { module: "esnext", target: "es2023", rewriteRelativeImportExtensions: true },
      root,
    );
    const { outputText } = ts.transpileModule(source, { compilerOptions: options, fileName: path });
    writeFileSync(join(this.folder, "dist", path.replace(/\.ts$/, ".js")), outputText);
    this.sources.set(path, source);
  }

  /** Adds an entry to a list in a file of `src`, where a line says that it begins, and the import of it. */
  addEntry(path: string, begin: string, { name, from }: { readonly name: string; readonly from: string }): void {
    const source = this.sources.get(path) ?? readFileSync(join(root, "src", path), "utf8");
    if (source.split(begin).length !== 2) throw new Error(`src/${path} does not have one ${begin}`);
    this.write(path, `import { ${name} } from "${from}";\n${source.replace(begin, `${begin}\n  ${name},`)}`);
  }

  /** Builds the scripts of threads with what was written. */
  joinThreads(): void {
    execFileSync(process.execPath, [join(root, "src/system/buildThreads.mjs"), join(this.folder, "dist")]);
  }

  /** A module of the built tree, such as `engine/engine.js`. */
  async import<T>(path: string): Promise<T> {
    return (await import(pathToFileURL(join(this.folder, "dist", path)).href)) as T;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
