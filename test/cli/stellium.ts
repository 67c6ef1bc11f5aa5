import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

/** The built command line. */
export const program = join(root, "dist/cli/main.js");
/** The bundled model. */
export const model = join(root, "models/stellium-shakespeare-5m-q8_0.gguf");

/** How a process ended, and what it wrote. */
export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** How to start a process. */
export interface Start {
  input?: string;
  /** The built command line to start; by default `program`. */
  main?: string;
  env?: Record<string, string>;
}

/** Lines that are shown of what takes longer than 0.3 s. */
const progressLine = /^(loading|slicing|fetching|receiving) \d[^\n]* of \d[^\n]*\n/gm;

/** Starts the command line with its stdin open. One thread: tests share the machine. In the end, stderr has no progress. */
export function start(args: readonly string[], { env = {}, main = program }: Start = {}) {
  const child = spawn(process.execPath, [main, ...args], { env: { ...environment(), ...env } });
  const outcome: Outcome = { code: null, signal: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (outcome.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (outcome.stderr += text));
  const ended = new Promise<Outcome>((resolve) => {
    child.on("close", (code, signal) => {
      const stderr = outcome.stderr.replace(progressLine, "");
      resolve(Object.assign(outcome, { code, signal, stderr }));
    });
  });
  return { child, outcome, ended };
}

/** Runs the command line to its end. */
export function stellium(args: readonly string[], options: Start = {}): Promise<Outcome> {
  const { child, ended } = start(args, options);
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  return ended;
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean, ms = 90_000): Promise<void> {
  for (const end = Date.now() + ms; !condition(); ) {
    if (Date.now() > end) throw new Error(`still waiting after ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Choices of a test run: the libraries and the CPU variant. */
const chosen = ["STELLIUM_CPU", "STELLIUM_NATIVE_DIR"];

/** This process's environment without what would change the outcome. */
export function environment(): Record<string, string> {
  const isKept = (name: string) => chosen.includes(name) || !(name.startsWith("STELLIUM_") || name === "CI");
  const kept = Object.entries(process.env).filter(([name]) => isKept(name));
  return { ...(Object.fromEntries(kept) as Record<string, string>), STELLIUM_THREADS: "1" };
}
