import koffi from "./koffi.ts";

/** glibc's `M_MMAP_THRESHOLD`. */
const mmapThreshold = -3;
const largeBytes = 32 * 1024;

/**
 * Has glibc give blocks from 32 KiB on back to the system as soon as they are freed. By itself it does so from 128 KiB on, and
 * raises that to the largest block ever freed. Below it, aligned blocks that were freed are hardly found again before glibc
 * 2.38 (its bug 14581): graphs and copies of KV cells of many sizes let a server grow without end. A no-op elsewhere.
 */
export function giveLargeBlocksBack(): void {
  if (process.platform !== "linux") return;
  let mallopt: (parameter: number, value: number) => number;
  try {
    mallopt = koffi.load(null).func("int mallopt(int, int)");
  } catch {
    // Another C library, with an allocator of its own.
    return;
  }
  mallopt(mmapThreshold, largeBytes);
}
