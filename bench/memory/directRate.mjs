// How fast a file can be read past the cache, as a child process: `{ path, seconds }` on stdin, `{ bytesPerSecond }` on stdout.
import { once } from "node:events";
import { constants, fstatSync, openSync, readSync } from "node:fs";
import { json } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { allocatePages, preferHugePages, viewNative } from "#stellium/native/memory";

/** @typedef {{ path: string, seconds: number, reader: number }} Reading */

const requestBytes = 4 << 20;
const readers = 2;
const hugePageBytes = 2 << 20;

if (isMainThread) await main();
else read(workerData);

async function main() {
  const request = await json(process.stdin);
  const workers = Array.from(
    { length: readers },
    (_, reader) =>
      new Worker(fileURLToPath(import.meta.url), { workerData: { .../** @type {object} */ (request), reader } }),
  );
  const rates = await Promise.all(workers.map(async (worker) => (await once(worker, "message"))[0]));
  const bytesPerSecond = rates.reduce((sum, rate) => sum + rate, 0);
  process.stdout.write(JSON.stringify({ bytesPerSecond }), () => process.exit(0));
}

/** Reads in turns with the others, round and round, as blocks are streamed. @param {Reading} reading */
function read({ path, seconds, reader }) {
  const file = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const requests = Math.floor(fstatSync(file).size / requestBytes);
  // In small pages, a request is as many pieces of memory, more than a disk takes at once.
  const { address, bytes } = allocatePages(requestBytes + hugePageBytes);
  preferHugePages(address, bytes);
  const room = viewNative(address, bytes);
  const first = hugePageBytes - Number(address % BigInt(hugePageBytes));
  const started = performance.now();
  let done = 0;
  for (let next = reader; performance.now() - started < seconds * 1000; next += readers) {
    done += readSync(file, room, first, requestBytes, (next % requests) * requestBytes);
  }
  parentPort?.postMessage((done / (performance.now() - started)) * 1000);
}
