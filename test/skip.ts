import { join } from "node:path";

declare module "vitest" {
  interface TaskMeta {
    /** Shown in the last lines of a run of the tests. */
    skipReason?: string;
  }
}

/** Options for a test or a suite: `describe(name, skipIf(condition, "there is no X"), ...)`. Suites pass them on. */
export function skipIf(condition: boolean, reason: string) {
  return condition ? { skip: true, meta: { skipReason: reason } } : {};
}

/** Options for what is tested on one platform only. */
export function skipUnless(platform: "linux"): ReturnType<typeof skipIf> {
  return skipIf(process.platform !== platform, `it is tested on ${platform} only, and this is ${process.platform}`);
}

/** Options for what Windows has no counterpart of. */
export function skipOnWindows(what: string): ReturnType<typeof skipIf> {
  return skipIf(process.platform === "win32", `Windows has no ${what}`);
}

/** Reference data that is beside a developer's checkout and not part of the project. */
export function sharedData(...path: string[]): string {
  return join(import.meta.dirname, "../../shared/data", ...path);
}

/** The reason to skip what needs a part of `sharedData`. */
export function absentData(...path: string[]): string {
  return `there is no ../shared/data/${path.join("/")} beside the checkout`;
}
