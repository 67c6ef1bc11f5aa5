import type { Collective } from "./collective.ts";

/** One rank alone: its values are the sum. */
export const solo: Collective = { name: "solo", allReduce() {} };
