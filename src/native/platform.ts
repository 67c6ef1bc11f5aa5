import { StelliumError } from "../errors.ts";

/** Platform packages that hold ggml and llama.cpp, by `process.platform`-`process.arch`. */
const packages: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-armv7l",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
  "win32-x64": "win-x64",
  "win32-arm64": "win-arm64",
};

/** Name of the package for a platform such as `linux-x64`. Throws `PLATFORM_UNSUPPORTED`. */
export function packageFor(platform: string): string {
  const name = packages[platform];
  if (name === undefined) throw new StelliumError("PLATFORM_UNSUPPORTED", { platform });
  return name;
}

/** Throws `PLATFORM_UNSUPPORTED` if there is no package for this platform, and no other build was named. */
export function checkPlatform(environment: NodeJS.ProcessEnv = process.env): void {
  if (!environment["STELLIUM_NATIVE_DIR"]) packageFor(`${process.platform}-${process.arch}`);
}
