import { createApp } from "#stellium/api/app";
import type { Api } from "#stellium/api/context";
import { FollowerPlaces } from "#stellium/api/followers";
import { ApiMetrics } from "#stellium/api/metrics";
import type { ServedModel } from "#stellium/api/servedModel";
import { ApiServer, type ServerOptions } from "#stellium/api/server";
import { StatusBoard } from "#stellium/cluster/status/board";
import { StatusFeed } from "#stellium/cluster/status/feed";
import { defaultSampling } from "#stellium/serving/samplingParameters";

type Parts = Partial<Api> & { served?: ServedModel };

/** What the API needs, with defaults for a test. */
export function apiParts({ served, ...parts }: Parts) {
  return {
    id: "fake",
    created: 1_700_000_000,
    version: "0.0.0",
    model: () => served,
    access: { allowedHosts: [], corsOrigins: [] },
    sampling: defaultSampling,
    pingMs: 60_000,
    metrics: new ApiMetrics(),
    status: new StatusFeed({ version: "0.0.0", board: new StatusBoard(), work: () => undefined }),
    ...parts,
  };
}

/** The API without a socket: `post` and `get` return its responses. */
export function testApp(parts: Parts) {
  const never = new AbortController().signal;
  const app = createApp({ draining: never, stopping: never, followers: new FollowerPlaces(), ...apiParts(parts) });
  const request = (path: string, init: RequestInit = {}) => Promise.resolve(app.request(path, init));
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    request(path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...init });
  return { request, post, get: request };
}

type TestSocket = Partial<Pick<ServerOptions, "stallMs" | "headMs" | "connections">>;

/** The API on a socket of this machine. */
export function testServer(parts: Parts, { stallMs = 60_000, ...more }: TestSocket = {}): Promise<ApiServer> {
  return ApiServer.start({ host: "127.0.0.1", port: 0, stallMs, ...more, api: apiParts(parts) });
}

/** A response's JSON, whatever it is. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape
export async function json(response: Response | Promise<Response>): Promise<any> {
  return (await response).json();
}

/** One server-sent event. */
export interface SentEvent {
  event: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into events of every shape
  data: any;
}

/** The events of a whole stream; `[DONE]` as that text. */
export function eventsOf(text: string): SentEvent[] {
  const blocks = text.split("\n\n").filter((block) => block !== "" && !block.startsWith(":"));
  return blocks.map((block) => {
    const event = /^event: (.*)$/m.exec(block)?.[1];
    const data = /^data: (.*)$/m.exec(block)![1]!;
    return { event, data: data === "[DONE]" ? data : JSON.parse(data) };
  });
}

/** The user's message alone. */
export function ask(content: unknown, more: object = {}) {
  return { messages: [{ role: "user", content }], ...more };
}
