import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Gives a run of the tests a folder for temporary files, and removes it with whatever tests and their processes left there. */
export default function setUp(): () => void {
  const folder = mkdtempSync(join(tmpdir(), "stellium-tests-"));
  process.env["TMPDIR"] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
