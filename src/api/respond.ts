import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import type { Api, ApiContext } from "./context.ts";
import { errorBody } from "./errorBody.ts";
import { EventStream } from "./eventStream.ts";
import type { ServedModel } from "./servedModel.ts";

/** What fails this soon is told by the HTTP status, later by an event: a stream has to begin some time. */
const patienceMs = 500;

const streamHeaders = {
  "Content-Type": "text/event-stream; charset=utf-8",
  // Reverse proxies would collect the events.
  "X-Accel-Buffering": "no",
};

/** The model. Throws `MODEL_LOADING`. */
export function loadedModel(api: Api): ServedModel {
  const model = api.model();
  if (model === undefined) throw new StelliumError("MODEL_LOADING");
  return model;
}

/** Aborted when the client has left, or the server is about to. */
export function requestSignal(api: Api, c: ApiContext): AbortSignal {
  return AbortSignal.any([c.req.raw.signal, api.stopping]);
}

/** How a stream tells that it failed: OpenAI's clients raise at an `error` field. */
export type FailureEvent = (stream: EventStream, error: unknown) => void;

const failChat: FailureEvent = (stream, error) => stream.send(errorBody(error));

/**
 * Answers by a stream of events, which `produce` sends. What fails before there is one, and soon, is thrown; what fails
 * later ends the stream by an error event, so that nobody takes it for complete.
 */
export async function respondStream(
  api: Api,
  c: ApiContext,
  produce: (stream: EventStream, signal: AbortSignal) => Promise<void>,
  fail: FailureEvent = failChat,
): Promise<Response> {
  const stream = new EventStream(api.pingMs);
  const signal = AbortSignal.any([requestSignal(api, c), stream.gone]);
  let streaming = false;
  const produced = produce(stream, signal).then(
    () => stream.end(),
    (error: unknown) => {
      if (!streaming) throw error;
      endByError(api, stream, fail, error);
      return error;
    },
  );
  produced.catch(() => {});
  try {
    await Promise.race([produced, stream.begun, pause(patienceMs)]);
  } catch (error) {
    stream.discard();
    throw error;
  }
  streaming = true;
  c.set("ended", produced);
  return c.body(stream.body, 200, streamHeaders);
}

function endByError(api: Api, stream: EventStream, fail: FailureEvent, error: unknown): void {
  if (!stream.gone.aborted) {
    api.metrics.streamFailed();
    logFailure(error);
  }
  fail(stream, toldError(api, error));
  stream.end();
}

/** What a client is told: it was not the client who stopped a request that ends with the server. */
export function toldError({ stopping }: Api, error: unknown): unknown {
  const stopped = stopping.aborted && error instanceof StelliumError && error.code === "ABORTED";
  return stopped ? new StelliumError("SERVER_STOPPING") : error;
}

/** Tells the server's log what a client is not told. */
export function logFailure(error: unknown): void {
  if (error instanceof StelliumError && error.status < 500) return;
  const said = error instanceof Error ? error.message : String(error);
  const stack = !(error instanceof StelliumError) && error instanceof Error ? error.stack : undefined;
  log("error", said, { stack });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
