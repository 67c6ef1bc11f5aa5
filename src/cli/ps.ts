import { unlessHomeless } from "../system/homeDirectory.ts";
import { printable } from "../weights/gguf/printable.ts";
import type { Values } from "./arguments/option.ts";
import type { processOptions } from "./commandOptions.ts";
import { formatBytes, formatDuration } from "./format.ts";
import { homelessText } from "./homeless.ts";
import { residentBytes } from "./processes/memory.ts";
import { type ListedProcess, processDirectory, runningProcesses } from "./processes/registry.ts";
import { columns } from "./table.ts";

interface Shown extends ListedProcess {
  readonly resident: number | undefined;
}

/** Lists, on stdout, the servers and devices that this user has started on this machine. */
export async function processes({ json }: Values<typeof processOptions>): Promise<void> {
  const directory = unlessHomeless(() => processDirectory());
  if (directory === undefined && !json) return print(`no list of processes ${homelessText("STELLIUM_CACHE_DIR")}`);
  const running = directory === undefined ? [] : await runningProcesses(directory);
  const shown = await Promise.all(running.map(async (each) => ({ ...each, resident: await residentBytes(each.pid) })));
  print(json ? JSON.stringify({ processes: shown.map(factsOf) }, null, 2) : textOf(shown));
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function factsOf({ pid, command, started, model, address, rank, devices, resident, memoryCap }: Shown) {
  return {
    pid,
    command,
    started: new Date(started).toISOString(),
    model: model ?? null,
    address: address ?? null,
    rank: rank ?? null,
    devices: devices ?? null,
    resident_bytes: resident ?? null,
    memory_cap_bytes: memoryCap ?? null,
  };
}

function textOf(shown: readonly Shown[]): string {
  if (shown.length === 0) return "nothing runs";
  const head = ["PID", "COMMAND", "MODEL", "DEVICES", "ADDRESS", "MEMORY", "SINCE"];
  return columns([head, ...shown.map(rowOf)]).join("\n");
}

function rowOf({ pid, command, model = "-", address = "-", rank, devices, resident, memoryCap, started }: Shown) {
  const memory = resident === undefined ? "-" : formatBytes(resident);
  return [
    String(pid),
    printable(command),
    printable(model, { limit: 60 }),
    devicesText(rank, devices),
    printable(address),
    memoryCap === undefined ? memory : `${memory} of ${formatBytes(memoryCap)}`,
    formatDuration((Date.now() - started) / 1000),
  ];
}

function devicesText(rank: number | undefined, devices: number | undefined): string {
  if (devices === undefined) return "-";
  return rank === undefined || rank === 0 ? String(devices) : `${rank + 1} of ${devices}`;
}
