import { StelliumError } from "../errors.ts";
import { countByGroup, firstOfLargestGroup, type Holder } from "./fairShare.ts";

/** A client that follows what happens for as long as it likes. */
interface Follower extends Holder {
  readonly leave: (reason: StelliumError) => void;
}

/** How many clients may follow the cluster's events. */
const usualMost = 64;

/** Places for clients that follow the cluster's events, shared fairly among addresses. */
export class FollowerPlaces {
  readonly #most: number;
  readonly #taken = new Set<Follower>();

  constructor(most = usualMost) {
    this.#most = most;
  }

  /**
   * Takes a place, and returns what frees it. If all are taken, the group that has the most gives up its first one, but
   * not for one more of its own. Throws `STREAMS_FULL`.
   */
  take(follower: Follower): () => void {
    if (this.#taken.size >= this.#most) this.#makeRoom(follower);
    this.#taken.add(follower);
    return () => this.#taken.delete(follower);
  }

  #makeRoom({ group }: Follower): void {
    const full = new StelliumError("STREAMS_FULL", { most: this.#most });
    const counts = countByGroup(this.#taken);
    const first = firstOfLargestGroup([...this.#taken])!;
    if (counts.get(first.group)! <= (counts.get(group) ?? 0)) throw full;
    this.#taken.delete(first);
    first.leave(full);
  }
}
