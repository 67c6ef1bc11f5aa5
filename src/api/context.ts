import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Context } from "hono";
import type { StatusFeed } from "../cluster/status/feed.ts";
import type { SamplingParameters } from "../serving/samplingParameters.ts";
import type { FollowerPlaces } from "./followers.ts";
import type { ApiMetrics } from "./metrics.ts";
import type { AccessRules } from "./security.ts";
import type { ServedModel } from "./servedModel.ts";

/** What the API is made of. */
export interface Api {
  /** The model's name. */
  readonly id: string;
  /** When the server started, in seconds since 1970. */
  readonly created: number;
  readonly version: string;
  /** The model; undefined while it loads. */
  readonly model: () => ServedModel | undefined;
  readonly access: AccessRules;
  /** What requests do not say of how tokens are chosen. */
  readonly sampling: SamplingParameters;
  /** Streams with nothing to say say so this often, in milliseconds. */
  readonly pingMs: number;
  readonly metrics: ApiMetrics;
  /** Places for clients that follow that. */
  readonly followers: FollowerPlaces;
  /** What the devices are and do. */
  readonly status: Pick<StatusFeed, "current" | "subscribe">;
  /** Aborted when no more requests are taken. */
  readonly draining: AbortSignal;
  /** Aborted when those that still run are to end as well. */
  readonly stopping: AbortSignal;
}

/** What handlers leave for those around them. */
export interface ApiEnvironment {
  /** Absent where a request came over no socket. */
  Bindings: { readonly incoming?: IncomingMessage };
  Variables: {
    /** Of a streamed answer: settles when it has ended, with what it failed by. */
    ended: Promise<unknown> | undefined;
  };
}

/** One request. */
export type ApiContext = Context<ApiEnvironment>;

/** A name for an answer, such as `chatcmpl-3f...`. */
export function newId(prefix: string): string {
  return `${prefix}${randomUUID().replaceAll("-", "")}`;
}

/** The time in seconds since 1970. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** Names what computes: answers to the same seed may differ where it does. */
export function fingerprint({ version }: Api): string {
  return `stellium-${version}`;
}
