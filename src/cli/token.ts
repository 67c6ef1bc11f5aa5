import { DeviceRecords } from "../cluster/identity/deviceRecords.ts";
import { StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";
import type { Values } from "./arguments/option.ts";
import type { tokenCommandOptions } from "./commandOptions.ts";

/** Prints the kept join token, or replaces it. Throws `BAD_USAGE`, `HOME_UNKNOWN`, `CACHE_UNWRITABLE`. */
export async function joinToken({ rotate, cacheDir }: Values<typeof tokenCommandOptions>): Promise<void> {
  const records = new DeviceRecords(cacheDir);
  const kept = rotate ? await rotated(records) : records.token();
  if (kept === undefined) {
    const detail = `no token is kept at ${records.tokenPath}: a coordinator makes it, unless you give it one of yours`;
    throw new StelliumError("BAD_USAGE", { detail });
  }
  process.stdout.write(`${kept.text}\n`);
}

function rotated(records: DeviceRecords) {
  return writingTo(records.path, "STELLIUM_CACHE_DIR", async () => {
    records.prepare();
    return await records.renewToken();
  });
}
