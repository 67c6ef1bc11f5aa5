import { constants } from "node:os";
import koffi from "./koffi.ts";

/** Numbers of flock(2), the same on Linux and macOS. */
const operations = { shared: 1, exclusive: 2 } as const;
const withoutWaiting = 4;

type Flock = (descriptor: number, operation: number) => number;
let flock: Flock | undefined;

/**
 * Tries to lock an open file or folder, without waiting. Any number of shared locks go together; an exclusive one goes
 * with no other. The lock ends when the descriptor is closed, and so with its process at the latest: one that is held
 * proves that its owner lives.
 *
 * @returns `unsupported` on Windows, and on file systems without such locks
 */
export function tryLock(descriptor: number, kind: keyof typeof operations): "locked" | "held" | "unsupported" {
  if (process.platform === "win32") return "unsupported";
  flock ??= koffi.load(null).func("int flock(int, int)") as unknown as Flock;
  if (flock(descriptor, operations[kind] | withoutWaiting) === 0) return "locked";
  return koffi.errno() === constants.errno.EWOULDBLOCK ? "held" : "unsupported";
}
