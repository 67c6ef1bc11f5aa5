// How fast memory can be read, as a child process: `{ threads }` on stdin, `{ bytesPerSecond }` on stdout.
import { once } from "node:events";
import { json } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import koffi from "koffi";
import { preferHugePages } from "#stellium/native/memory";

/** @typedef {{ address: bigint, bytes: number }} Part */
/** @typedef {"memchr" | "memcmp"} Reader */

const totalBytes = 1 << 30;
const passes = 4;
const alignment = 2 << 20;

if (isMainThread) await main();
else serve(workerData);

async function main() {
  const { threads } = /** @type {{ threads: number }} */ (await json(process.stdin));
  const workers = partsOf(threads).map((part) => new Worker(fileURLToPath(import.meta.url), { workerData: part }));
  await Promise.all(workers.map((worker) => once(worker, "message")));
  /** @type {Reader[]} */
  const readers = ["memchr", "memcmp"];
  let best = Number.POSITIVE_INFINITY;
  for (let pass = 0; pass < passes; pass++)
    for (const reader of readers) best = Math.min(best, await passMs(workers, reader));
  process.stdout.write(JSON.stringify({ bytesPerSecond: (totalBytes / best) * 1000 }), () => process.exit(0));
}

/** @param {number} threads @returns {Part[]} */
function partsOf(threads) {
  const allocate = koffi.load(null).func("void *aligned_alloc(size_t, size_t)");
  const address = allocate(alignment, totalBytes);
  if (!address) throw new Error(`there is no memory for ${totalBytes} bytes to be read`);
  preferHugePages(address, totalBytes);
  const bytes = Math.floor(totalBytes / threads / 8192) * 8192;
  return Array.from({ length: threads }, (_, index) => ({ address: address + BigInt(index * bytes), bytes }));
}

/** @param {Worker[]} workers @param {Reader} reader */
async function passMs(workers, reader) {
  const started = performance.now();
  for (const worker of workers) worker.postMessage(reader);
  await Promise.all(workers.map((worker) => once(worker, "message")));
  return performance.now() - started;
}

/** Touches its part, so that it is memory, and then reads it whenever it is told to. @param {Part} part */
function serve({ address, bytes }) {
  const libc = koffi.load(null);
  libc.func("void *memset(void *, int, size_t)")(address, 1, bytes);
  const memchr = libc.func("void *memchr(void *, int, size_t)");
  const memcmp = libc.func("int memcmp(void *, void *, size_t)");
  const half = bytes / 2;
  const readers = {
    memchr: () => memchr(address, 2, bytes),
    memcmp: () => memcmp(address, address + BigInt(half), half),
  };
  parentPort?.on("message", (/** @type {Reader} */ reader) => {
    readers[reader]();
    parentPort?.postMessage("read");
  });
  parentPort?.postMessage("ready");
}
