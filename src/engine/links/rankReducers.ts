import { broadcast } from "../../collective/broadcast.ts";
import type { Group } from "../../collective/group.ts";
import type { Recorder } from "../../trace/recorder.ts";
import { spanKind } from "../../trace/spans.ts";
import { dividedTokens } from "../division.ts";
import type { Reducer } from "../reducer.ts";
import type { Communication } from "./communication.ts";
import type { Reductions } from "./reduction.ts";

/** Sums up as soon as a block is computed, in the same thread: nothing is handed over. */
export function inlineReducer({ usual, exact: inF32 }: Reductions, group: Group, recorder: Recorder): Reducer {
  let stopped = false;
  return {
    separates: true,
    lanes: 1,
    begin: () => 1,
    start(_, { values, exact }, subject) {
      const { collective, wire } = exact ? inF32 : usual;
      const started = recorder.now();
      collective.allReduce(values);
      recorder.end(spanKind.reduce, started, subject, wire.bytes(values.length));
      stopped = Number.isNaN(values[0]);
    },
    wait() {
      const sound = !stopped;
      stopped = false;
      return sound;
    },
    broadcast(rank, bytes) {
      const started = recorder.now();
      broadcast(group, rank, bytes);
      recorder.end(spanKind.broadcast, started, 0, bytes.length);
    },
  };
}

/** Sums up what a divided pass computed in the communication thread, and what another one did in this. */
export function overlappingReducer(inline: Reducer, communication: Communication, recorder: Recorder): Reducer {
  const underWay = new Map<number, { readonly values: Float32Array; readonly subject: number }>();
  let divided = false;
  return {
    separates: true,
    lanes: 2,
    begin(tokens) {
      divided = tokens >= dividedTokens;
      return divided ? 2 : 1;
    },
    start(lane, partial, subject) {
      if (!divided) return inline.start(lane, partial, subject);
      communication.start(lane, partial, subject);
      underWay.set(lane, { values: partial.values, subject });
    },
    wait(lane) {
      if (!divided) return inline.wait(lane);
      const sum = underWay.get(lane);
      if (sum === undefined) return true;
      underWay.delete(lane);
      const started = recorder.now();
      communication.wait(lane);
      recorder.end(spanKind.sums, started, sum.subject);
      return !Number.isNaN(sum.values[0]);
    },
    broadcast: (rank, bytes) => inline.broadcast(rank, bytes),
  };
}
