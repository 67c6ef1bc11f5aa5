// How fast a file can be read past the cache, as a child process: a `Request` on stdin, `{ bytesPerSecond }` on stdout.
import { once } from "node:events";
import { constants, fstatSync, openSync, readSync } from "node:fs";
import { json } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { allocatePages, preferHugePages, viewNative } from "#stellium/native/memory";

/**
 * @typedef {object} Request
 * @property {string} path
 * @property {number} seconds
 * @property {number} [requestBytes] Of each read.
 * @property {number} [readers] That read at a time.
 * @property {boolean} [scattered] Whether they read at random places, into memory that is too large for caches, as experts are
 * read; else one request after the other, into a small ring.
 *
 * @typedef {Required<Request> & { reader: number }} Reading
 */

const scatteredBytes = 512 << 20;
const hugePageBytes = 2 << 20;

if (isMainThread) await main();
else read(workerData);

async function main() {
  const asked = /** @type {Request} */ (await json(process.stdin));
  const request = { requestBytes: 4 << 20, readers: 2, scattered: false, ...asked };
  const workers = Array.from(
    { length: request.readers },
    (_, reader) => new Worker(fileURLToPath(import.meta.url), { workerData: { ...request, reader } }),
  );
  const rates = await Promise.all(workers.map(async (worker) => (await once(worker, "message"))[0]));
  const bytesPerSecond = rates.reduce((sum, rate) => sum + rate, 0);
  process.stdout.write(JSON.stringify({ bytesPerSecond }), () => process.exit(0));
}

/** Reads in turns with the others, round and round, or anywhere. @param {Reading} reading */
function read({ path, seconds, requestBytes, readers, reader, scattered }) {
  const file = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const requests = Math.floor(fstatSync(file).size / requestBytes);
  const places = scattered ? Math.floor(scatteredBytes / requestBytes) : 1;
  // In small pages, a request is as many pieces of memory, more than a disk takes at once.
  const { address, bytes } = allocatePages(places * requestBytes + hugePageBytes);
  preferHugePages(address, bytes);
  const room = viewNative(address, bytes).fill(0);
  const first = hugePageBytes - Number(address % BigInt(hugePageBytes));
  const started = performance.now();
  let [done, turn] = [0, 0];
  for (; performance.now() - started < seconds * 1000; turn++) {
    const next = scattered ? Math.floor(Math.random() * requests) : (reader + turn * readers) % requests;
    done += readSync(file, room, first + (turn % places) * requestBytes, requestBytes, next * requestBytes);
  }
  parentPort?.postMessage((done / (performance.now() - started)) * 1000);
}
