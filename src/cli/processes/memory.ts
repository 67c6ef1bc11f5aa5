import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** Bytes of RAM that a process has now; undefined where the system does not say. */
export async function residentBytes(pid: number): Promise<number | undefined> {
  if (process.platform === "win32") return undefined;
  const kilobytes = process.platform === "linux" ? await fromProc(pid) : await fromPs(pid);
  return Number.isSafeInteger(kilobytes) && kilobytes > 0 ? kilobytes * 1024 : undefined;
}

async function fromProc(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1]);
}

async function fromPs(pid: number): Promise<number> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", String(pid)]).catch(() => ({ stdout: "" }));
  return Number(stdout.trim());
}
