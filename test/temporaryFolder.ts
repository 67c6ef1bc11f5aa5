import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const prefix = "stellium-tests-";

/**
 * Gives a run of the tests a folder for temporary files, and removes it with whatever tests and their processes left there.
 * Called for each project: all have the same folder. A browser's socket has to fit a path of 108 bytes.
 */
export default function setUp(): () => void {
  if (basename(tmpdir()).startsWith(prefix)) return () => {};
  const folder = mkdtempSync(join(tmpdir(), prefix));
  process.env["TMPDIR"] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
