import { Agent, request } from "node:http";
import fc from "fast-check";
import { faultOf, malformedRequest } from "./apiFuzz/malformed.mjs";
import { demoModel, startServer } from "./serve/server.mjs";

/** @typedef {import("./apiFuzz/malformed.mjs").MalformedRequest} MalformedRequest */

const concurrency = 16;
const chunk = 1000;

/**
 * `api-fuzz`: malformed requests to a server in a process of its own. Throws at the first one that is not refused by a
 * 4xx, and where the server does not live on.
 * @param {{ requests: number, seed: number }} options
 */
export async function runApiFuzz({ requests, seed }) {
  const server = await startServer(demoModel, ["--threads", "1"]);
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  /** @type {Map<number, number>} */
  const statuses = new Map();
  try {
    for (let sent = 0; sent < requests; sent += chunk) {
      const batch = fc.sample(malformedRequest, { numRuns: Math.min(chunk, requests - sent), seed: seed + sent });
      await sendAll(batch, (one) => check(server.url, agent, one, statuses));
      process.stderr.write(`\r${Math.min(sent + chunk, requests)} of ${requests}`);
    }
    const health = await send(`${server.url}/health`, agent, { method: "GET", path: "", headers: {}, body: undefined });
    if (health.status !== 200) throw new Error(`afterwards the server's health is ${health.status}`);
    const counts = [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${count} x ${status}`);
    process.stdout.write(`\n${requests} malformed requests, seed ${seed}: ${counts.join(", ")}\n`);
  } finally {
    agent.destroy();
    await server.stop();
  }
}

/**
 * @param {readonly MalformedRequest[]} batch
 * @param {(one: MalformedRequest) => Promise<void>} sendOne
 */
async function sendAll(batch, sendOne) {
  const queue = batch.values();
  const lane = async () => {
    for (const one of queue) await sendOne(one);
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}

/**
 * @param {string} url
 * @param {Agent} agent
 * @param {MalformedRequest} one
 * @param {Map<number, number>} statuses
 */
async function check(url, agent, one, statuses) {
  const { status, text } = await send(url, agent, one);
  statuses.set(status, (statuses.get(status) ?? 0) + 1);
  const fault = faultOf(one, status, text);
  if (fault !== undefined) throw new Error(`${JSON.stringify(one)}\n${fault}`);
}

/**
 * @param {string} url
 * @param {Agent} agent
 * @param {MalformedRequest} one
 * @returns {Promise<{ status: number, text: string }>}
 */
function send(url, agent, { method, path, headers, body }) {
  const { hostname, port, pathname } = new URL(url);
  const options = { agent, hostname, port, method, headers, path: path === "" ? pathname : encodeURI(path) };
  return new Promise((resolve, reject) => {
    const sent = request(options, (response) => {
      const chunks = /** @type {Buffer[]} */ ([]);
      response.on("data", (data) => chunks.push(data));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}
