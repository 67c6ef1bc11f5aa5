import { spawn } from "node:child_process";
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { environment, type Outcome, program } from "./stellium.ts";

type Controller = "memory" | "cpu";

/** Limits of a group: bytes of memory, or processors. */
export interface Limits {
  readonly memory?: number;
  readonly cpu?: number;
}

const top = "/sys/fs/cgroup";

/** Where groups with this limit are made here, and by which version. */
interface Hierarchy {
  readonly version: 1 | 2;
  readonly root: string;
}

/** A control group that a test makes, with what runs in it. Parents are made first. */
export class ControlGroup implements Disposable {
  readonly version: 1 | 2;
  readonly path: string;

  /** @param parent - the group that it is made in; the root of the hierarchy if absent */
  constructor(controller: Controller, name: string, limits: Limits, parent?: ControlGroup) {
    const { version, root } = parent ? { version: parent.version, root: parent.path } : hierarchy(controller)!;
    if (version === 2) writeFileSync(join(root, "cgroup.subtree_control"), `+${controller}`);
    this.version = version;
    this.path = join(root, `stellium-test-${name}-${process.pid}`);
    mkdirSync(this.path);
    for (const [file, text] of settings(version, limits)) writeFileSync(join(this.path, file), text);
  }

  /** Most bytes that were charged to it. */
  get peak(): number {
    return Number(this.read(this.version === 1 ? "memory.max_usage_in_bytes" : "memory.peak"));
  }

  /** Number of its processes that the system has killed for memory. */
  get kills(): number {
    const events = this.read(this.version === 1 ? "memory.oom_control" : "memory.events");
    return Number(/^oom_kill (\d+)/m.exec(events)![1]);
  }

  read(file: string): string {
    return readFileSync(join(this.path, file), "utf8");
  }

  /** Runs the command line in it. */
  stellium(args: readonly string[], env: Record<string, string | undefined> = {}): Promise<Outcome> {
    return this.run([process.execPath, program, ...args], env);
  }

  run(command: readonly string[], env: Record<string, string | undefined> = {}): Promise<Outcome> {
    const enter = `echo $$ > '${this.path}/cgroup.procs' && exec "$0" "$@"`;
    const child = spawn("sh", ["-c", enter, ...command], { env: { ...environment(), ...env } });
    const outcome: Outcome = { code: null, signal: null, stdout: "", stderr: "" };
    child.stdin.end();
    child.stdout.on("data", (text) => (outcome.stdout += text));
    child.stderr.on("data", (text) => (outcome.stderr += text));
    return new Promise((resolve) =>
      child.once("close", (code, signal) => resolve(Object.assign(outcome, { code, signal }))),
    );
  }

  [Symbol.dispose](): void {
    rmdirSync(this.path);
  }
}

/** A quota comes with a large weight: then it is what holds processes up, and not what else runs here. */
function settings(version: 1 | 2, { memory, cpu }: Limits): [string, string][] {
  const quota = cpu === undefined ? undefined : String(cpu * 100_000);
  const files: [string, string | undefined][] =
    version === 1
      ? [
          ["memory.limit_in_bytes", memory?.toString()],
          ["cpu.cfs_period_us", quota && "100000"],
          ["cpu.cfs_quota_us", quota],
          ["cpu.shares", quota && "100000"],
        ]
      : [
          ["memory.max", memory?.toString()],
          ["cpu.max", quota && `${quota} 100000`],
          ["cpu.weight", quota && "10000"],
        ];
  return files.flatMap(([file, text]) => (text === undefined ? [] : [[file, text]]));
}

/** Why no such groups can be made here; undefined where they can. */
export function noGroups(controller: Controller): string | undefined {
  const found = hierarchy(controller);
  if (found === undefined) return `no ${controller} control groups are mounted here`;
  try {
    accessSync(join(found.root, "cgroup.procs"), constants.W_OK);
    new ControlGroup(controller, "probe", {})[Symbol.dispose]();
    return undefined;
  } catch (error) {
    return `no ${controller} control groups can be made here (${(error as NodeJS.ErrnoException).code})`;
  }
}

function hierarchy(controller: Controller): Hierarchy | undefined {
  const first = join(top, controller);
  const probe = { memory: "memory.limit_in_bytes", cpu: "cpu.cfs_quota_us" }[controller];
  if (readable(join(first, probe)) !== undefined) return { version: 1, root: first };
  const controllers = readable(join(top, "cgroup.controllers"))?.trim().split(" ");
  return controllers?.includes(controller) ? { version: 2, root: top } : undefined;
}

function readable(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
