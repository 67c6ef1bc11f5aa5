import type { Engine } from "../../engine/engine.ts";
import type { ModelDescription } from "../../model/describeModel.ts";
import { weightBytes } from "../../plan/memory.ts";
import { rankDescription } from "../../plan/rankDescription.ts";
import type { SharePlan } from "../../plan/shares.ts";
import type { GgufModel } from "../../weights/gguf/model.ts";
import type { Team } from "../team.ts";
import type { ClusterEvent, DeviceStatus } from "./schema.ts";

const keptEvents = 50;

/** What is known once shares are planned. */
export interface PlannedTeam {
  readonly model: GgufModel;
  readonly description: ModelDescription;
  readonly shares: SharePlan;
  /** Absent where one device does it alone. */
  readonly team: Team | undefined;
}

/** What is known once this device can compute. */
export interface ReadyCluster {
  readonly engine: Engine;
  readonly kvBytes: number;
  /** What this process may take in all. */
  readonly capBytes?: number | undefined;
}

/**
 * Where the coordinator puts what there is to see, from before the model is read on. Nothing is asked or counted for it:
 * whoever looks does that.
 */
export class StatusBoard {
  readonly #events: ClusterEvent[] = [];
  readonly #watchers = new Set<() => void>();
  #planned: PlannedTeam | undefined;
  #shares: readonly DeviceStatus["share"][] | undefined;
  #ready: ReadyCluster | undefined;
  #count = 0;

  get planned(): PlannedTeam | undefined {
    return this.#planned;
  }

  /** What the shares of all ranks come to. */
  get shares(): readonly DeviceStatus["share"][] {
    this.#shares ??= this.#planned && sharesOf(this.#planned);
    return this.#shares ?? [];
  }

  get running(): ReadyCluster | undefined {
    return this.#ready;
  }

  /** The last ones, oldest first. */
  get events(): readonly ClusterEvent[] {
    return this.#events;
  }

  plan(planned: PlannedTeam): void {
    this.#planned = planned;
    this.#shares = undefined;
    this.changed();
  }

  ready(running: ReadyCluster): void {
    this.#ready = running;
    this.note("ready", "the model is loaded", null);
  }

  /** Keeps what happened, and has watchers look. */
  note(kind: ClusterEvent["kind"], text: string, device: string | null): void {
    this.#events.push({ id: this.#count++, at: Date.now(), kind, device, text });
    if (this.#events.length > keptEvents) this.#events.shift();
    this.changed();
  }

  /** Has watchers look. */
  changed(): void {
    for (const look of this.#watchers) look();
  }

  /** Calls `look` at every change, until the returned function is called. */
  watch(look: () => void): () => void {
    this.#watchers.add(look);
    return () => this.#watchers.delete(look);
  }
}

function sharesOf({ description, shares }: PlannedTeam): DeviceStatus["share"][] {
  const { headCount, headCountKv } = description.hyperparameters;
  const bytes = shares.ranks.map((_, rank) => weightBytes(rankDescription(description, shares, rank)));
  const all = bytes.reduce((sum, value) => sum + value, 0);
  return shares.ranks.map(({ kvHeads, ffn }, rank) => ({
    heads: kvHeads.count * (headCount / headCountKv),
    kvHeads: kvHeads.count,
    ffnColumns: ffn.count,
    weightBytes: bytes[rank]!,
    weightFraction: all === 0 ? 0 : bytes[rank]! / all,
  }));
}
