import { autoCollective } from "../collective/auto.ts";
import { calibrate } from "../collective/calibrate.ts";
import type { LinkMeasurements } from "../collective/choose.ts";
import { type Collective, type CollectiveName, openCollective } from "../collective/collective.ts";
import type { Group } from "../collective/group.ts";

/** Which collective to add up by; `auto` goes by what was measured between the ranks. */
export interface ReductionChoice {
  readonly collective: CollectiveName | "auto";
  readonly measurements?: LinkMeasurements | undefined;
}

/** Opens a collective. `auto` tries some over the links of the group first, which all ranks do together. */
export function openReduction({ collective: name, measurements }: ReductionChoice, group: Group): Collective {
  if (name !== "auto") return openCollective(name, group);
  return autoCollective(group, measurements!, calibrate(group, measurements!));
}
