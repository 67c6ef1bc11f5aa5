import { limitSending, mostLimit } from "../native/sockets.ts";
import type { LinkMeasurements } from "./choose.ts";
import type { Group } from "./group.ts";

/** As much as a frame, so that the next one can be handed over while it travels. */
const least = 128 * 1024;

/**
 * Lets no more be under way to another rank than keeps the link to it busy: the bytes that it takes in a round trip. Of
 * sums in which everyone sends to everyone, more would only fill the queues of the network's devices, which drop what
 * they have no room for, and delay the acknowledgements of the other direction. Links that need more than a system lets
 * a program ask for stay as they are.
 */
export function limitInFlight(group: Group, { latencyMs, bytesPerMs }: LinkMeasurements): void {
  for (const peer of group.others()) {
    const roundTrip = latencyMs[group.rank]![peer]! + latencyMs[peer]![group.rank]!;
    const bytes = Math.max(least, Math.ceil(bytesPerMs[group.rank]![peer]! * roundTrip));
    if (bytes <= mostLimit) limitSending(group.link(peer).socket, bytes);
  }
}
