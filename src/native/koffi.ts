import { createRequire } from "node:module";
import type koffi from "koffi";
import { reasonOf, StelliumError } from "../errors.ts";
import { checkPlatform } from "./platform.ts";

export type { LibraryHandle } from "koffi";

/**
 * koffi, which the rest of this folder imports from here. Where it cannot be loaded, importing it does not fail, but its
 * first use does, with `PLATFORM_UNSUPPORTED`, `NATIVE_MISSING` or `NATIVE_INCOMPATIBLE`: so a file that imports a module
 * for something else is not disturbed, and the command line can say it in its way.
 */
export default loadKoffi();

function loadKoffi(): typeof koffi {
  try {
    return createRequire(import.meta.url)("koffi") as typeof koffi;
  } catch (error) {
    return failingAtUse(error);
  }
}

function failingAtUse(cause: unknown): typeof koffi {
  return new Proxy({} as typeof koffi, {
    get() {
      checkPlatform();
      throw koffiError(cause);
    },
  });
}

/** The error of a koffi that cannot be loaded. @param cause - what importing it threw */
export function koffiError(cause: unknown): StelliumError {
  const name = `@koromix/koffi-${process.platform}-${process.arch}`;
  const reason = reasonOf(cause);
  if (/cannot find/i.test(reason)) return new StelliumError("NATIVE_MISSING", { package: name }, { cause });
  return new StelliumError("NATIVE_INCOMPATIBLE", { directory: name, reason }, { cause });
}
