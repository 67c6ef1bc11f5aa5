import { createServer } from "node:http";
import { modelBytes, planModel } from "../generateModel.mjs";

/** Sizes of what is computed at once while a response is written. */
const chunkBytes = 1 << 20;

/**
 * Serves a model that lies on no disk: its bytes are computed from the seed as they are asked for, by Range requests as
 * well. Resolves once it listens.
 * @param {import("../generateModel.mjs").ModelOptions & { host?: string, port?: number }} options
 * @returns {Promise<{ url: string, fileBytes: number, sent: () => number, close: () => Promise<void> }>}
 */
export async function serveModel({ host = "127.0.0.1", port = 0, ...options }) {
  const plan = planModel(options);
  const path = `/${options.shape}-${options.type}.gguf`;
  const version = `"${options.shape}-${options.type}-${options.seed ?? 1}-${options.layers ?? "all"}"`;
  let sent = 0;
  const server = createServer((request, response) => {
    const count = (/** @type {number} */ bytes) => {
      sent += bytes;
    };
    if (request.url !== path) return void response.writeHead(404).end();
    answer(plan, version, request, response, count).catch((error) => response.destroy(error));
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, host, () => resolve(undefined)));
  const bound = /** @type {import("node:net").AddressInfo} */ (server.address()).port;
  return {
    url: `http://${host}:${bound}${path}`,
    fileBytes: plan.fileBytes,
    sent: () => sent,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/**
 * @param {import("../generateModel.mjs").ModelPlan} plan
 * @param {string} version
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 * @param {(bytes: number) => void} count
 */
async function answer(plan, version, request, response, count) {
  const size = plan.fileBytes;
  const range = rangeOf(request.headers.range, size);
  if (!range) return void response.writeHead(416, { "content-range": `bytes */${size}` }).end();
  const [start, end] = range;
  const partial = request.headers.range !== undefined;
  response.writeHead(partial ? 206 : 200, {
    ...{ etag: version, "accept-ranges": "bytes", "content-length": end - start },
    ...(partial && { "content-range": `bytes ${start}-${end - 1}/${size}` }),
  });
  if (request.method !== "HEAD") await write(plan, start, end, response, count);
  response.end();
}

/**
 * Computes no more than the connection takes.
 * @param {import("../generateModel.mjs").ModelPlan} plan
 * @param {number} start
 * @param {number} end
 * @param {import("node:http").ServerResponse} response
 * @param {(bytes: number) => void} count
 */
async function write(plan, start, end, response, count) {
  for (let at = start; at < end && !response.destroyed; at += chunkBytes) {
    const bytes = modelBytes(plan, at, Math.min(end, at + chunkBytes));
    if (!response.write(bytes)) await drained(response);
    count(bytes.length);
  }
}

/** @param {import("node:http").ServerResponse} response */
function drained(response) {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve(undefined);
    };
    response.on("drain", done).on("close", done);
  });
}

/**
 * The bytes that a Range header asks for, end exclusive; all without one, undefined for what there is not.
 * @param {string | undefined} header
 * @param {number} size
 * @returns {[start: number, end: number] | undefined}
 */
function rangeOf(header, size) {
  if (header === undefined) return [0, size];
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header) ?? [];
  const start = Number(first ?? size);
  const end = last ? Math.min(size, Number(last) + 1) : size;
  return start < end ? [start, end] : undefined;
}
