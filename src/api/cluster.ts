import type { ClusterStatus } from "../cluster/status/schema.ts";
import { withoutToken } from "../cluster/status/snapshot.ts";
import type { StelliumError } from "../errors.ts";
import type { Api, ApiContext } from "./context.ts";
import { clientGroup } from "./fairShare.ts";
import { respondStream } from "./respond.ts";

/** `GET /cluster`: what the devices are and do; see `clusterStatus`. */
export async function cluster(api: Api, c: ApiContext): Promise<Response> {
  return c.json(shown(api, c)(await api.status.current()));
}

/** `GET /cluster/events`: the same as it changes, and every second. */
export function clusterEvents(api: Api, c: ApiContext): Promise<Response> {
  const show = shown(api, c);
  return respondStream(api, c, async (stream, signal) => {
    const replaced = new AbortController();
    const leave = (reason: StelliumError) => replaced.abort(reason);
    const free = api.followers.take({ group: clientGroup(c.env?.incoming?.socket.remoteAddress), leave });
    try {
      // A client that has yet to read the last status gets a later one when it has.
      const unsubscribe = api.status.subscribe((status) => stream.isRead && stream.send(show(status)));
      await aborted(AbortSignal.any([signal, api.draining, replaced.signal]));
      unsubscribe();
    } finally {
      free();
    }
    replaced.signal.throwIfAborted();
  });
}

function shown(api: Api, c: ApiContext): (status: ClusterStatus) => ClusterStatus {
  return mayInvite(api, c) ? (status) => status : withoutToken;
}

/**
 * Whether a client may see the join line, whose token lets devices in: one that has the API key, unless it is a page of
 * another origin. A server without a key shows it to nobody, not even on this machine: the token's file is for one user,
 * and a reverse proxy makes every client look local.
 */
function mayInvite({ access }: Api, c: ApiContext): boolean {
  const [origin, host] = [c.req.header("origin"), c.req.header("host")];
  const sameOrigin = origin === undefined || origin === `http://${host}` || origin === `https://${host}`;
  return sameOrigin && access.apiKey !== undefined;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
