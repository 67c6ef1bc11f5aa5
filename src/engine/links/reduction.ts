import { autoCollective } from "../../collective/auto.ts";
import { correctionOf } from "../../collective/calibrate.ts";
import { type Collective, type CollectiveName, openCollective } from "../../collective/collective.ts";
import type { Group } from "../../collective/group.ts";
import { limitInFlight } from "../../collective/inFlight.ts";
import type { Tuning } from "../../collective/tune.ts";

/** Which collective to add up by; `auto` goes by what was learned of the links between the ranks. */
export interface ReductionChoice {
  readonly collective: CollectiveName | "auto";
  readonly tuning?: Tuning | undefined;
}

/** Opens a collective. */
export function openReduction({ collective: name, tuning }: ReductionChoice, group: Group): Collective {
  if (name !== "auto") return openCollective(name, group);
  const { measurements, trials } = tuning!;
  limitInFlight(group, measurements);
  return autoCollective(group, measurements, correctionOf(trials));
}
