import { renameSync, rmSync, writeFileSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fileMode, makeFolder } from "../../system/makeFolder.ts";
import { birthOf, isRunningProcess } from "../../system/runningProcess.ts";
import { cacheDirectory } from "../../weights/sliceDirectory.ts";

const facts = z.object({
  /** The verb of the command line. */
  command: z.string().max(40),
  /** As the person who started it wrote it. */
  model: z.string().max(10_000).optional(),
  /** Where clients connect, or the coordinator that a device has joined. */
  address: z.string().max(1000).optional(),
  /** Which of the cluster's devices it is: 0 is the coordinator's. */
  rank: z.number().int().min(0).max(1000).optional(),
  /** How many devices share the model. */
  devices: z.number().int().min(1).max(1000).optional(),
  /** Ids of the devices that are connected to it. */
  connected: z.array(z.string().max(40)).max(1000).optional(),
  /** Where the token that lets devices join it came from. */
  token: z
    .object({
      from: z.enum(["given", "variable", "memory", "file", "kept"]),
      path: z.string().max(10_000).optional(),
    })
    .optional(),
  /** The most memory it may take. */
  memoryCap: z.number().positive().optional(),
});
const entry = facts.extend({
  pid: z.number().int().positive(),
  /** When it was started, in ms since 1970. */
  started: z.number().positive(),
  /** Tells it from another process with the same number, where the system says so. */
  birth: z.string().max(40).optional(),
});

/** What a process tells of itself. */
export type ProcessFacts = z.infer<typeof facts>;
/** A process as it is listed. */
export type ListedProcess = z.infer<typeof entry>;

/** Where processes are listed: a file for each. */
export function processDirectory(cache: string = cacheDirectory()): string {
  return join(cache, "processes");
}

/** Lists this process until it ends, with what was told before. Does nothing if the list cannot be written. */
export function tellOfThisProcess(told: { readonly [K in keyof ProcessFacts]?: ProcessFacts[K] | undefined }): void {
  const first = known === undefined;
  known = { ...known, ...told };
  try {
    const directory = processDirectory();
    const path = join(directory, `${process.pid}.json`);
    if (first) makeFolder(directory);
    if (first) process.once("exit", () => forget(path));
    const temporary = `${path}.tmp`;
    writeFileSync(temporary, JSON.stringify({ ...ownEntry(), ...known }), { mode: fileMode });
    renameSync(temporary, path);
  } catch {
    // A list of processes is worth no failure.
  }
}

let known: object | undefined;

function forget(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The next list that is asked for leaves it out.
  }
}

/** The processes that run, the oldest first. Removes the entries of those that were killed. */
export async function runningProcesses(directory: string): Promise<ListedProcess[]> {
  const names = (await readdir(directory).catch(() => [])).filter((name) => name.endsWith(".json"));
  const found = await Promise.all(names.map((name) => runningAt(join(directory, name))));
  return found.filter((process) => process !== undefined).sort((a, b) => a.started - b.started);
}

async function runningAt(path: string): Promise<ListedProcess | undefined> {
  const listed = await read(path);
  if (listed !== undefined && isRunningProcess(listed)) return listed;
  await rm(path, { force: true }).catch(() => {});
  return undefined;
}

async function read(path: string): Promise<ListedProcess | undefined> {
  try {
    return entry.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}

function ownEntry() {
  return {
    command: process.argv[2] ?? "",
    pid: process.pid,
    started: Math.round(Date.now() - process.uptime() * 1000),
    birth: birthOf(process.pid),
  };
}
