import type { ClusterStatus } from "../cluster/status/schema.ts";
import { withoutToken } from "../cluster/status/snapshot.ts";
import type { Api, ApiContext } from "./context.ts";
import { respondStream } from "./respond.ts";
import { isLoopback } from "./security.ts";

/** `GET /cluster`: what the devices are and do; see `clusterStatus`. */
export async function cluster(api: Api, c: ApiContext): Promise<Response> {
  return c.json(shown(api, c)(await api.status.current()));
}

/** `GET /cluster/events`: the same as it changes, and every second. */
export function clusterEvents(api: Api, c: ApiContext): Promise<Response> {
  const show = shown(api, c);
  return respondStream(api, c, async (stream, signal) => {
    const unsubscribe = api.status.subscribe((status) => stream.send(show(status)));
    await aborted(AbortSignal.any([signal, api.draining]));
    unsubscribe();
  });
}

function shown(api: Api, c: ApiContext): (status: ClusterStatus) => ClusterStatus {
  return mayInvite(api, c) ? (status) => status : withoutToken;
}

/**
 * Whether a client may see the join line, whose token lets devices in: one that has the API's key; where there is none,
 * one on this machine. No page of another origin may, and nobody who comes by a proxy without a key.
 */
function mayInvite({ access }: Api, c: ApiContext): boolean {
  const [origin, host] = [c.req.header("origin"), c.req.header("host")];
  if (origin !== undefined && origin !== `http://${host}` && origin !== `https://${host}`) return false;
  if (access.apiKey !== undefined) return true;
  const forwarded = ["forwarded", "x-forwarded-for", "via"].some((name) => c.req.header(name) !== undefined);
  return !forwarded && isLoopback(remoteAddress(c));
}

/** Where a request comes from; empty where it came over no socket. */
function remoteAddress({ env }: { readonly env?: ApiContext["env"] }): string {
  const address = env?.incoming?.socket.remoteAddress ?? "";
  return address.replace(/^::ffff:/, "");
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
