import type { Choice } from "./choose.ts";
import { exchange } from "./exchange.ts";
import type { Group } from "./group.ts";
import { mesh } from "./mesh.ts";
import { ring } from "./ring.ts";
import { solo } from "./solo.ts";
import { star } from "./star.ts";
import { tree } from "./tree.ts";

/** Ways to sum over all ranks, as users name them. */
export type CollectiveName = "star" | "exchange" | "mesh" | "ring" | "tree";

/** A way for all ranks of a group to sum up what each has computed. */
export interface Collective {
  readonly name: CollectiveName | "solo" | "auto";
  /**
   * Replaces `values` by their sum over all ranks, which all call it with as many values. Afterwards all have the same
   * bits. Blocks. Throws `LINK_LOST`, after which the group is of no more use.
   */
  allReduce(values: Float32Array): void;
  /** Where it takes another one for each size of payload: which for so many bytes, encoded, and why. */
  choiceFor?(payloadBytes: number): Choice;
}

const collectives: Record<CollectiveName, (group: Group) => Collective> = { star, exchange, mesh, ring, tree };

/** All names, simplest first. */
export const collectiveNames = Object.keys(collectives) as readonly CollectiveName[];

/** Opens a collective over a group; over one rank alone it is `solo`, whatever the name. */
export function openCollective(name: CollectiveName, group: Group): Collective {
  return group.size === 1 ? solo : collectives[name](group);
}
