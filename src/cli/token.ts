import { DeviceRecords } from "../cluster/identity/deviceRecords.ts";
import { type JoinToken, readToken } from "../cluster/token.ts";
import { StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import type { Values } from "./arguments/option.ts";
import type { tokenCommandOptions } from "./commandOptions.ts";
import { type ListedProcess, processDirectory, runningProcesses } from "./processes/registry.ts";

type Coordinator = ListedProcess & { readonly token: NonNullable<ListedProcess["token"]> };

/**
 * Writes the token that admits devices to stdout, and nothing else; if asked to, a new one.
 * Throws `TOKEN_NOT_KEPT`, `BAD_USAGE`, `FILE_UNREADABLE`, `HOME_UNKNOWN`, `CACHE_UNWRITABLE`.
 */
export async function printToken({ rotate, cacheDir, json }: Values<typeof tokenCommandOptions>): Promise<void> {
  const records = new DeviceRecords(cacheDir);
  const coordinator = await latestCoordinator(records, cacheDir !== undefined);
  const { text, origin } = rotate ? await rotated(records, coordinator) : await current(records, coordinator);
  const path = "path" in origin ? origin.path : null;
  process.stdout.write(json ? `${JSON.stringify({ token: text, path }, null, 2)}\n` : `${text}\n`);
}

/** The coordinator that this user started last, of those that run; not one that keeps its token elsewhere if `here`. */
async function latestCoordinator({ tokenPath }: DeviceRecords, here: boolean): Promise<Coordinator | undefined> {
  const directory = unlessHomeless(() => processDirectory());
  const running = directory === undefined ? [] : await runningProcesses(directory);
  const elsewhere = ({ token }: Coordinator) => here && token.from === "kept" && token.path !== tokenPath;
  return running.filter((each): each is Coordinator => each.token !== undefined).findLast((each) => !elsewhere(each));
}

async function current(records: DeviceRecords, coordinator: Coordinator | undefined): Promise<JoinToken> {
  if (coordinator === undefined) return records.token() ?? (await newToken(records));
  const { pid, token: origin } = coordinator;
  if (origin.path !== undefined) return await readToken({ from: "file", path: origin.path });
  const reasons: Partial<Record<string, string>> = {
    variable: "it is in its variable STELLIUM_TOKEN",
    given: "it was given by --token",
  };
  throw new StelliumError("TOKEN_NOT_KEPT", { pid, reason: reasons[origin.from] ?? "none could be written" });
}

async function rotated(records: DeviceRecords, coordinator: Coordinator | undefined): Promise<JoinToken> {
  const token = await newToken(records);
  if (coordinator === undefined || coordinator.token.from === "kept") return token;
  process.stderr.write(
    `process ${coordinator.pid} was given its own token and does not use this one: give it another, and restart it\n`,
  );
  return token;
}

function newToken(records: DeviceRecords): Promise<JoinToken> {
  return writingTo(records.path, "STELLIUM_CACHE_DIR", async () => {
    records.prepare();
    return await records.renewToken();
  });
}
