import { parentPort, workerData } from "node:worker_threads";

/** Reads its part of memory from end to end, as often as it is told to. */
const { bytes } = workerData as { bytes: number };
const part = Buffer.alloc(bytes, 1);

parentPort!.on("message", () => {
  part.indexOf(2);
  parentPort!.postMessage("read");
});
parentPort!.postMessage("ready");
