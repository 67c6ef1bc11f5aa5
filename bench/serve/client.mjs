import { Agent, request } from "node:http";

/** @typedef {{ at: number, data: any }} ArrivedEvent When it came, in milliseconds, and what it says; `"[DONE]"` as that text. */

/** Keeps connections, as clients of an API do. @param {number} most */
export function connections(most) {
  return new Agent({ keepAlive: true, maxSockets: most });
}

/**
 * Posts JSON, and returns the status and the stream of the answer.
 * @param {Agent} agent
 * @param {string} url
 * @param {object} body
 * @param {AbortSignal} [signal] Hangs up, unless the answer has ended.
 * @returns {Promise<import("node:http").IncomingMessage>}
 */
export function post(agent, url, body, signal) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent, method: "POST", headers: { "Content-Type": "application/json" } });
    let complete = false;
    sent.on("response", (response) => {
      response.on("end", () => {
        complete = true;
      });
      resolve(response);
    });
    sent.on("error", reject);
    signal?.addEventListener("abort", () => {
      if (!complete) sent.destroy();
    });
    sent.end(JSON.stringify(body));
  });
}

/**
 * The server-sent events of an answer.
 * @param {import("node:http").IncomingMessage} response
 * @returns {AsyncGenerator<ArrivedEvent, void>}
 */
export async function* events(response) {
  let rest = "";
  for await (const text of response.setEncoding("utf8")) {
    const at = performance.now();
    const blocks = `${rest}${text}`.split("\n\n");
    rest = /** @type {string} */ (blocks.pop());
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data !== undefined) yield { at, data: data === "[DONE]" ? data : JSON.parse(data) };
    }
  }
}

/** The whole body of an answer. @param {import("node:http").IncomingMessage} response */
export async function bodyOf(response) {
  let body = "";
  for await (const text of response.setEncoding("utf8")) body += text;
  return body;
}

/** @param {Agent} agent @param {string} url */
export function get(agent, url) {
  return new Promise((/** @type {(response: import("node:http").IncomingMessage) => void} */ resolve, reject) => {
    request(url, { agent }, resolve).on("error", reject).end();
  });
}
