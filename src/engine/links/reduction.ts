import { autoCollective } from "../../collective/auto.ts";
import { correctionOf } from "../../collective/calibrate.ts";
import { type Collective, type CollectiveName, openCollective } from "../../collective/collective.ts";
import { Group, type GroupOptions } from "../../collective/group.ts";
import { limitInFlight } from "../../collective/inFlight.ts";
import type { Tuning } from "../../collective/tune.ts";
import { openWire, type Wire } from "../../collective/wire.ts";
import { mostCheckValues } from "../choices.ts";
import { sumDeadline } from "./linkSets.ts";

/** Which collective to add up by; `auto` goes by what was learned of the links between the ranks. */
export interface ReductionChoice {
  readonly collective: CollectiveName | "auto";
  readonly tuning?: Tuning | undefined;
}

/** A way to add up, and the wire type that values take on it. */
export interface Reduction {
  readonly collective: Collective;
  readonly wire: Wire;
}

/** Ways to add up hidden states, and the few values that have to arrive as they are. */
export interface Reductions {
  readonly usual: Reduction;
  readonly exact: Reduction;
}

/** The groups that values are added up in, by the same links: for hidden states, and for what is added up in f32. */
export interface SumGroups {
  readonly usual: Group;
  readonly exact: Group;
}

/** Makes the groups of one set of links. */
export function sumGroups(options: Omit<GroupOptions, "deadlineMs" | "maxElements">, largest: SumSizes): SumGroups {
  const usual = new Group({ ...options, maxElements: largest.usual, deadlineMs: sumDeadline });
  const exact = { ...options, wire: openWire("f32"), maxElements: largest.exact, deadlineMs: sumDeadline };
  return { usual, exact: new Group(exact, usual.times) };
}

/** Values of the largest sums. */
export interface SumSizes {
  readonly usual: number;
  readonly exact: number;
}

/** The values of the largest sums of up to `tokens` tokens, from those of one; a check may go with each. */
export function sumSizes({ usual, exact }: SumSizes, tokens: number): SumSizes {
  return { usual: usual * tokens + mostCheckValues, exact: exact * tokens + mostCheckValues };
}

/** Opens the collectives of both groups. */
export function openReductions(choice: ReductionChoice, { usual, exact }: SumGroups): Reductions {
  const open = (group: Group) => ({ collective: openReduction(choice, group), wire: group.wire });
  return { usual: open(usual), exact: open(exact) };
}

/** Opens a collective. */
function openReduction({ collective: name, tuning }: ReductionChoice, group: Group): Collective {
  if (name !== "auto") return openCollective(name, group);
  const { measurements, trials } = tuning!;
  limitInFlight(group, measurements);
  return autoCollective(group, measurements, correctionOf(trials));
}
