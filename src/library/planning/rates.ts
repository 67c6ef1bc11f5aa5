import { chooseThreads, type ThreadChoice } from "../../cluster/threads.ts";
import type { DeviceRates, LinkFigures } from "../../plan/latency.ts";
import { type DeviceFigures, figureOf } from "./deviceFigures.ts";
import { measureCompute, measureDisk } from "./measure.ts";

/** Where a figure comes from: the command line, this device, or nowhere. */
export type Source = "given" | "measured" | "assumed";

/** What was asked to be planned with. */
export interface WantedRates {
  readonly compute: DeviceFigures | undefined;
  readonly disk: DeviceFigures | undefined;
  readonly link: LinkFigures | undefined;
  readonly threads: number | undefined;
  /** Read from to measure the disk. */
  readonly path: string;
  /** Bytes of weights of the largest rank, which decide how many threads compute. */
  readonly weightBytes: number;
}

/** What is planned with. */
export interface PlanningRates {
  readonly devices: readonly DeviceRates[];
  readonly link: LinkFigures;
  /** Compute threads of this device; undefined if its rate was given. */
  readonly threads: ThreadChoice | undefined;
  readonly sources: { readonly compute: Source; readonly disk: Source; readonly link: Source };
}

/** A SATA disk's. */
const assumedDisk = 500e6;
/** What TPI-LLM was measured over. */
const assumedLink = { latencyMs: 1, bytesPerSecond: 300e6 / 8 };

/** Takes what was given, and measures this device, or assumes, what was not; devices are taken to be like this one. */
export async function ratesOf(wanted: WantedRates, size: number): Promise<PlanningRates> {
  const threads = wanted.compute ? undefined : chooseThreads({ ...wanted, asked: wanted.threads });
  const compute = wanted.compute ?? [await measureCompute(threads!.threads)];
  const measured = wanted.disk === undefined ? await measureDisk(wanted.path) : undefined;
  const disk = wanted.disk ?? [measured ?? assumedDisk];
  const devices = Array.from({ length: size }, (_, rank) => ({
    computeBytesPerSecond: figureOf(compute, rank),
    diskBytesPerSecond: figureOf(disk, rank),
  }));
  return {
    devices,
    link: wanted.link ?? assumedLink,
    threads,
    sources: {
      compute: wanted.compute ? "given" : "measured",
      disk: wanted.disk ? "given" : measured === undefined ? "assumed" : "measured",
      link: wanted.link ? "given" : "assumed",
    },
  };
}
