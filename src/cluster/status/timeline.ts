import { profiledParts } from "../../engine/stepProfile.ts";
import type { DeviceStatus } from "./schema.ts";

/** Rows of all devices together, at most: what a screen can show, and a stream of many devices can carry. */
const mostRows = 768;
const fewestEach = 8;
const mostEach = 128;

/**
 * The blocks of one step as rows of `profiledParts`; where there are many, as sums over some that follow on each other.
 *
 * @param times - as `Engine.profile` gives them
 */
export function timelineOf(times: ArrayLike<number>, devices: number): DeviceStatus["timeline"] {
  const parts = profiledParts.length;
  const count = Math.floor(times.length / parts);
  if (count === 0) return undefined;
  const most = Math.max(fewestEach, Math.min(mostEach, Math.floor(mostRows / devices)));
  const blocks = Math.ceil(count / most);
  const rows = Array.from({ length: Math.ceil(count / blocks) }, (_, row) =>
    profiledParts.map((_, part) => {
      let ms = 0;
      for (let i = row * blocks; i < Math.min(count, (row + 1) * blocks); i++) ms += times[i * parts + part]!;
      return Math.round(ms * 1000) / 1000;
    }),
  );
  return { blocks, rows };
}
