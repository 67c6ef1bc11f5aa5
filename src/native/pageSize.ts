import koffi from "./koffi.ts";

let known: number | undefined;

/** Bytes of this system's memory pages: 4096 on most, 16384 on Apple's and some boards, 65536 on some servers. */
export function pageSize(): number {
  known ??= process.platform === "win32" ? 4096 : (koffi.load(null).func("int getpagesize()") as () => number)();
  return known;
}

/** Rounds down to the start of a page, or of another power of two. */
export function pageStart(address: bigint, page: number): bigint {
  return address - (address % BigInt(page));
}

/** Rounds up to the start of a page. */
export function nextPage(address: bigint, page: number): bigint {
  return pageStart(address + BigInt(page) - 1n, page);
}
