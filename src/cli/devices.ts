import { type AdmittedDevice, DeviceRecords } from "../cluster/identity/deviceRecords.ts";
import { badUsage, StelliumError } from "../errors.ts";
import { writingTo } from "../system/cacheFolder.ts";
import { unlessHomeless } from "../system/homeDirectory.ts";
import type { Values } from "./arguments/option.ts";
import type { devicesOptions } from "./commandOptions.ts";
import { formatDuration } from "./format.ts";
import { homelessText } from "./homeless.ts";
import { processDirectory, runningProcesses } from "./processes/registry.ts";
import { columns } from "./table.ts";

/** Digits of an id in the list: enough to distinguish devices, and few enough to type. */
const shownDigits = 8;
const idStart = /^[0-9a-f]{8,32}$/;

interface ListedDevice extends AdmittedDevice {
  readonly connected: boolean;
}

/**
 * Lists, on stdout, the devices that this coordinator has admitted, or removes one.
 * Throws `BAD_USAGE`, `DEVICE_NOT_FOUND`, `HOME_UNKNOWN`, `CACHE_UNWRITABLE`.
 */
export async function admittedDevices({ action, name, cacheDir, json }: Values<typeof devicesOptions>): Promise<void> {
  if (action === "rm") return remove(new DeviceRecords(cacheDir), name, json);
  if (action !== undefined) throw badUsage(`there is no action ${JSON.stringify(action)}; there is rm`);
  const records = unlessHomeless(() => new DeviceRecords(cacheDir));
  if (records === undefined && !json) return print(`no list of devices ${homelessText("STELLIUM_CACHE_DIR")}`);
  const here = await connectedIds();
  const listed = (records?.list() ?? []).map((device) => ({ ...device, connected: here.has(device.id) }));
  print(json ? JSON.stringify({ devices: listed.map(factsOf) }, null, 2) : textOf(listed));
}

async function remove(records: DeviceRecords, name: string | undefined, json: boolean): Promise<void> {
  if (name === undefined) throw badUsage("name the device to remove, as in `stellium devices rm NAME`");
  const device = chosen(records.list(), name);
  await writingTo(records.path, "STELLIUM_CACHE_DIR", () => records.remove(device.id));
  if (json) return print(JSON.stringify({ removed: { id: device.id, name: device.name ?? null } }, null, 2));
  print(`removed ${device.name ?? "a device"} (${device.id.slice(0, shownDigits)}); the others keep their keys.`);
  print(
    "The token that it was admitted with admits no device any more. `stellium token` shows the new one; if you chose",
  );
  print("that token (--token, --token-file, STELLIUM_TOKEN), choose another before new devices join.");
}

/** The device with this name, or whose id is or begins with this. A whole id is never taken for a name. */
function chosen(listed: readonly AdmittedDevice[], name: string): AdmittedDevice {
  const exact = listed.find(({ id }) => id === name);
  const matches = listed.filter((device) => device.name === name || (idStart.test(name) && device.id.startsWith(name)));
  const found = exact ?? matches[0];
  if (found === undefined) throw new StelliumError("DEVICE_NOT_FOUND", { name: JSON.stringify(name) });
  if (exact !== undefined || matches.length === 1) return found;
  const ids = matches.map(({ id }) => id).join(", ");
  throw badUsage(`there are ${matches.length} devices called ${JSON.stringify(name)}; remove one by its id: ${ids}`);
}

/** Ids of the devices that are connected to a coordinator of this user. */
async function connectedIds(): Promise<ReadonlySet<string>> {
  const directory = unlessHomeless(() => processDirectory());
  const running = directory === undefined ? [] : await runningProcesses(directory);
  return new Set(running.flatMap(({ connected = [] }) => connected));
}

function factsOf({ id, name, address, since, at, connected }: ListedDevice) {
  return {
    id,
    name: name ?? null,
    address: address ?? null,
    since: since === undefined ? null : new Date(since).toISOString(),
    last_seen: at === undefined ? null : new Date(at).toISOString(),
    connected,
  };
}

function textOf(listed: readonly ListedDevice[]): string {
  if (listed.length === 0) return "no device has been admitted";
  return columns([["NAME", "ID", "ADDRESS", "ADMITTED", "LAST SEEN"], ...listed.map(rowOf)]).join("\n");
}

function rowOf({ id, name = "-", address = "-", since, at, connected }: ListedDevice): string[] {
  return [name, id.slice(0, shownDigits), address, ago(since), connected ? "connected" : ago(at)];
}

function ago(time: number | undefined): string {
  return time === undefined ? "-" : `${formatDuration((Date.now() - time) / 1000)} ago`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
