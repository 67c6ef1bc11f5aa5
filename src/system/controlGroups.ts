import { type ReadText, readSystem } from "./readText.ts";

/** What control groups limit, of what is read here. */
export type Controller = "cpu" | "memory";

/** The control groups that this process is in, for one controller. */
export interface ControlGroups {
  readonly version: 1 | 2;
  /** Its own group first, then every parent that can be seen. Limits of all of them hold. */
  readonly directories: readonly string[];
}

/** One line of `/proc/self/mountinfo`. */
interface Mount {
  /** The directory within the file system that is mounted. */
  readonly root: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** Which version limits a controller, and this process's group by the name that `/proc/self/cgroup` gives it. */
interface Membership {
  readonly version: 1 | 2;
  readonly path: string;
}

/**
 * Finds the groups of this process in `/proc/self/cgroup` and `/proc/self/mountinfo` (see cgroups(7)); undefined where
 * there are none, or none can be seen. In a container the mounted directory is often the group itself.
 */
export function controlGroups(controller: Controller, read: ReadText = readSystem): ControlGroups | undefined {
  const mounts = mountsIn(read("/proc/self/mountinfo") ?? "");
  for (const { version, path } of membershipsIn(read("/proc/self/cgroup") ?? "", controller)) {
    // A later mount may cover an earlier one.
    const fitting = mounts.filter((mount) => holds(mount, version, controller)).reverse();
    const isGroup = (directory: string) => exists(directory, version, controller, read);
    const directories = ownDirectories(fitting, path, isGroup) ?? rootOf(fitting, path);
    if (directories !== undefined) return { version, directories };
  }
  return undefined;
}

/** Version 1 first: where both are mounted (hybrid), a controller is in one of them, and in version 2 if not in 1. */
function membershipsIn(text: string, controller: Controller): Membership[] {
  const lines = text.split("\n").flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    return controllers === undefined || path === undefined ? [] : [{ controllers: controllers.split(","), path }];
  });
  const named = (version: 1 | 2, name: string) =>
    lines.filter(({ controllers }) => controllers.includes(name)).map(({ path }) => ({ version, path }));
  // The line of version 2 names no controllers.
  return [...named(1, controller), ...named(2, "")];
}

function mountsIn(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const [place = "", system = ""] = line.split(" - ");
    const [, , , root, point] = place.split(" ");
    const [type, , options = ""] = system.split(" ");
    if (root === undefined || point === undefined || type === undefined) return [];
    return [{ root: unescaped(root), point: unescaped(point), type, options: options.split(",") }];
  });
}

/** Blanks and backslashes are written in octal. */
function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function holds({ type, options }: Mount, version: 1 | 2, controller: Controller): boolean {
  return version === 2 ? type === "cgroup2" : type === "cgroup" && options.includes(controller);
}

/** The part of `path` below `root`, empty or beginning with a slash; undefined where it is not below. */
function below(root: string, path: string): string | undefined {
  const base = root === "/" ? "" : root;
  if (path !== base && !path.startsWith(`${base}/`)) return undefined;
  const rest = path.slice(base.length).replace(/\/+$/, "");
  return rest.split("/").includes("..") ? undefined : rest;
}

function ownDirectories(
  mounts: readonly Mount[],
  path: string,
  isGroup: (directory: string) => boolean,
): string[] | undefined {
  for (const { root, point } of mounts) {
    const rest = below(root, path);
    if (rest !== undefined && isGroup(point + rest)) return upTo(point, point + rest);
  }
  return undefined;
}

/**
 * If the group's name cannot be followed, since it is one of another control group namespace, what is mounted is the group
 * or an ancestor of it. But a group outside of this namespace (`/..`) is not below its root.
 */
function rootOf(mounts: readonly Mount[], path: string): string[] | undefined {
  const mount = mounts.find(({ root }) => !path.startsWith("/..") || root.startsWith("/.."));
  return mount && [mount.point];
}

function exists(directory: string, version: 1 | 2, controller: Controller, read: ReadText): boolean {
  const always = { cpu: "cpu.cfs_quota_us", memory: "memory.limit_in_bytes" }[controller];
  return read(`${directory}/${version === 2 ? "cgroup.controllers" : always}`) !== undefined;
}

/** A directory and its parents, up to `top`. */
function upTo(top: string, directory: string): string[] {
  const names = directory.slice(top.length).split("/").filter(Boolean);
  return names.map((_, i) => [top, ...names.slice(0, names.length - i)].join("/")).concat(top);
}
