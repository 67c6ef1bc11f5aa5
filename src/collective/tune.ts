import { broadcast } from "./broadcast.ts";
import { calibrate, fitting, type Trials } from "./calibrate.ts";
import type { LinkMeasurements } from "./choose.ts";
import { collectiveNames } from "./collective.ts";
import type { Group } from "./group.ts";
import { type LinkLook, lookAt, measureRates } from "./measure.ts";
import type { PairTable } from "./pairs.ts";

/** What `auto` goes by. Plain JSON, the same on all ranks. */
export interface Tuning {
  readonly look: LinkLook;
  readonly measurements: LinkMeasurements;
  readonly trials: Trials;
}

/** Where rank 0 keeps what it learned of a network from one start to the next. */
export interface TuningMemory {
  recall(): Tuning | undefined;
  remember(tuning: Tuning): void;
}

/** So much may a device's best figures differ, before its links count as others: they are never the same twice. */
const alikeMs = 0.3;
const alikeShare = 0.5;

/**
 * Finds out what `auto` has to know of the links. Where they look as they did before, what was measured then is taken,
 * and no more than that look is sent. All ranks call it and get the same. Blocks. Throws `LINK_LOST`.
 *
 * @param memory - on rank 0, if it has one
 */
export function tune(group: Group, memory?: TuningMemory): Tuning {
  const look = lookAt(group);
  const known = group.rank === 0 ? recalled(group, look, memory) : undefined;
  const kept = shared(group, known);
  if (kept !== undefined) return { look, ...kept };
  const measurements = measureRates(group, look);
  const tuning = { look, measurements, trials: calibrate(group, measurements) };
  if (group.rank === 0) memory?.remember(tuning);
  return tuning;
}

function recalled(group: Group, look: LinkLook, memory: TuningMemory | undefined): Tuning | undefined {
  const known = memory?.recall();
  const probes = fitting(group).map(({ bytes }) => bytes);
  const fits = known?.look.size === group.size && `${known.trials.map(({ bytes }) => bytes)}` === `${probes}`;
  return fits && isAlike(known.look, look) ? known : undefined;
}

/** True if every device's links are about as they were, by the best of each: one that was disturbed says little. */
export function isAlike(before: LinkLook, now: LinkLook): boolean {
  const tables = (look: LinkLook) => [look.latencyMs, look.glanceMs, transposed(look.glanceMs)];
  const best = (look: LinkLook) =>
    tables(look).flatMap((table) => table.map((row, rank) => Math.min(...row.filter((_, other) => other !== rank))));
  const was = best(before);
  return best(now).every((ms, i) => Math.abs(ms - was[i]!) <= Math.max(alikeMs, alikeShare * Math.max(ms, was[i]!)));
}

function transposed(table: PairTable): PairTable {
  return table.map((_, column) => table.map((row) => row[column]!));
}

/** What rank 0 knows, on all ranks; undefined where it knows nothing. */
function shared(group: Group, known: Tuning | undefined): Omit<Tuning, "look"> | undefined {
  const said = Uint8Array.of(known === undefined ? 0 : 1);
  broadcast(group, 0, said);
  if (said[0] !== 1) return undefined;
  const { size } = group;
  const latencyMs = sharedTable(group, known?.measurements.latencyMs, size, size);
  const bytesPerMs = sharedTable(group, known?.measurements.bytesPerMs, size, size);
  const probes = fitting(group);
  const own = known?.trials.map((trial) => trial.factors);
  const factors = sharedTable(group, own, probes.length, collectiveNames.length);
  const trials = probes.map(({ bytes }, i) => ({ bytes, factors: factors[i]! }));
  return { measurements: { size, latencyMs, bytesPerMs }, trials };
}

/** A table of rank 0, on all ranks. */
function sharedTable(group: Group, own: PairTable | undefined, rows: number, columns: number): PairTable {
  const values = new Float64Array(rows * columns);
  if (own !== undefined) values.set(own.flat());
  if (values.length > 0) broadcast(group, 0, new Uint8Array(values.buffer));
  return Array.from({ length: rows }, (_, row) => [...values.subarray(row * columns, (row + 1) * columns)]);
}
