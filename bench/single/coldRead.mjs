// A plain sequential read of a file, as a child process: `{ path }` on stdin, `{ ms, diskBytes }` on stdout.
import { openSync, readSync } from "node:fs";
import { json } from "node:stream/consumers";
import { diskBytesSoFar } from "./diskBytes.mjs";

const { path } = /** @type {{ path: string }} */ (await json(process.stdin));
const buffer = Buffer.alloc(8 << 20);
const before = diskBytesSoFar();
const started = performance.now();
const file = openSync(path, "r");
while (readSync(file, buffer) > 0);
const ms = performance.now() - started;
process.stdout.write(JSON.stringify({ ms, diskBytes: diskBytesSoFar() - before }));
