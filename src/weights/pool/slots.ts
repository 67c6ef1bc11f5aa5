import type { TensorPart } from "../slice.ts";

/** Experts whose matrices have the same shapes, types and layouts: any of them fits any slot of the class. */
export interface SlotClass {
  /** Indices of their units in the map, in order of computing. */
  readonly units: readonly number[];
  readonly slotBytes: number;
  readonly slots: number;
  /** Where its slots begin in the pool, in bytes. */
  readonly offset: number;
}

/** Expert units, as far as it decides which slots they fit. */
export interface SlotUnit {
  readonly room: number;
  /** The same for units that can take each other's places. */
  readonly shape: string;
}

/** The slots of a pool. */
export interface SlotPlan {
  readonly classes: readonly SlotClass[];
  readonly bytes: number;
  /** True if each expert has a slot of its own. */
  readonly resident: boolean;
}

/**
 * Divides a pool's room among the classes by the bytes of their experts, so that as large a part of each is in memory.
 *
 * @param units - in order of computing
 * @param budgetBytes - room for slots; all that are of use if absent
 * @param least - slots that each class has at least, if it has as many experts
 */
export function planSlots(units: readonly SlotUnit[], budgetBytes: number | undefined, least: number): SlotPlan {
  const byShape = new Map<string, number[]>();
  for (const [unit, { shape }] of units.entries()) {
    const known = byShape.get(shape);
    if (known === undefined) byShape.set(shape, [unit]);
    else known.push(unit);
  }
  const groups = [...byShape.values()].map((members) => ({
    units: members,
    slotBytes: members.reduce((most, unit) => Math.max(most, units[unit]!.room), 0),
  }));
  const total = groups.reduce((sum, { units: members, slotBytes }) => sum + members.length * slotBytes, 0);
  const resident = budgetBytes === undefined || budgetBytes >= total;
  const part = resident ? 1 : budgetBytes / total;
  let bytes = 0;
  const classes = groups.map((group): SlotClass => {
    const { length } = group.units;
    const slots = resident ? length : Math.min(length, Math.max(least, Math.floor(part * length)));
    const offset = bytes;
    bytes += slots * group.slotBytes;
    return { ...group, slots, offset };
  });
  return { classes, bytes, resident };
}

/** Bytes of the smallest pool: `least` slots of each class. */
export function leastPoolBytes(units: readonly SlotUnit[], least: number): number {
  return planSlots(units, 0, least).bytes;
}

/** The units of experts that take so much room, and consist of such parts. */
export function slotUnit(room: number, parts: readonly TensorPart[]): SlotUnit {
  const shapes = parts.map(({ type, rows, columns }) => `${type} ${rows.count} ${columns.count}`);
  return { room, shape: shapes.sort().join(", ") };
}

/** Role of the matrices of all experts that the one of this name belongs to: `ffn_up_exps.weight` of `blk.3.ffn_up.17.weight`. */
export function matrixOf(name: string): string {
  return name.replace(/^blk\.\d+\./, "").replace(/\.\d+\./, "_exps.");
}
