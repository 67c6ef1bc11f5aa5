import { z } from "zod";
import type { Api } from "../api/context.ts";
import { ApiMetrics } from "../api/metrics.ts";
import { isLoopback } from "../api/security.ts";
import { LoadedModel } from "../api/servedModel.ts";
import { ApiServer, serverBytes } from "../api/server.ts";
import { StatusBoard } from "../cluster/status/board.ts";
import { StatusFeed } from "../cluster/status/feed.ts";
import { version } from "../cluster/version.ts";
import { StelliumError } from "../errors.ts";
import { modelId } from "../models/modelName.ts";
import { type SamplingParameters, validateSampling } from "../serving/samplingParameters.ts";
import { sandboxBytes } from "../serving/sandbox/sandbox.ts";
import type { TextModel } from "../serving/textModel.ts";
import { checkOptions, fields } from "./checkOptions.ts";
import { libraryTemplate, loadTextModel } from "./model.ts";
import { type ModelOptions, modelFields } from "./modelOptions.ts";
import { samplingFields, samplingFrom } from "./writing.ts";

/** Which model is served, where, and to whom. */
export interface ServeOptions extends ModelOptions {
  /** Path, URL or name. */
  readonly model: string;
  /** Where clients connect; `127.0.0.1`, this machine only, if absent. */
  readonly host?: string | undefined;
  /** 7710 if absent; 0 is any free one. */
  readonly port?: number | undefined;
  /** What clients have to send. A host that others can reach needs one, or `anyone`. */
  readonly apiKey?: string | undefined;
  /** Whether whoever reaches `host` may use it, without a key. */
  readonly anyone?: boolean | undefined;
  /** Names by which clients may call this server, beside `localhost` and addresses. */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Origins of pages that may use it; `*` is all. */
  readonly corsOrigins?: readonly string[] | undefined;
  /** What clients call the model; its file's name if absent. */
  readonly name?: string | undefined;
  /** How tokens are chosen where requests do not say. */
  readonly sampling?: Partial<Readonly<SamplingParameters>> | undefined;
  /** Stops loading. What serves is ended by `close`. */
  readonly signal?: AbortSignal | undefined;
}

const names = z.array(z.string().min(1).max(1000)).max(1000).optional();
const schema = z.strictObject({
  ...modelFields,
  model: z.string().min(1).max(10_000),
  host: z.string().min(1).max(255).optional(),
  port: fields.count(0, 65_535),
  apiKey: fields.text,
  anyone: z.boolean().optional(),
  allowedHosts: names,
  corsOrigins: names,
  name: z.string().min(1).max(1000).optional(),
  sampling: z.strictObject(samplingFields).optional(),
  signal: fields.signal,
});

/**
 * Serves a model by OpenAI's API. While the model is loaded (and devices join), requests are answered by status 503;
 * resolves when it answers. `close` ends it.
 *
 * Throws `BAD_USAGE`, also for a host that others can reach without a key; `LISTEN_FAILED`, and what `loadModel` throws.
 *
 * @example
 * const server = await serve({ model: "Qwen/Qwen3-4B-GGUF:Q4_K_M", parallel: 4 });
 * const openai = new OpenAI({ baseURL: server.baseUrl, apiKey: "any" });
 */
export async function serve(options: ServeOptions): Promise<ModelServer> {
  checkOptions("options", schema, options);
  const { host = "127.0.0.1", port = 7710 } = options;
  if (!isLoopback(host) && options.apiKey === undefined && options.anyone !== true) {
    throw new StelliumError("BAD_USAGE", { detail: `others can reach ${host}: give an apiKey, or say anyone: true` });
  }
  const sampling = samplingFrom(options.sampling ?? {});
  validateSampling(sampling);
  let served: LoadedModel | undefined;
  const board = new StatusBoard();
  const work = () => served && { slots: [...served.slots()], queued: served.queued, counters: served.counters };
  const status = new StatusFeed({ version, board, work });
  const parts = { ...apiOf(options, host, sampling, () => served), status };
  const api = await ApiServer.start({ host, port, stallMs, api: parts });
  let textModel: TextModel | undefined;
  try {
    textModel = await loadTextModel(options.model, options, { hostBytes: serverBytes + sandboxBytes, status: board });
    served = new LoadedModel(textModel, await libraryTemplate(textModel, options.chatTemplate));
    return new ModelServer(api, textModel);
  } catch (error) {
    await api.close(0);
    await textModel?.[Symbol.asyncDispose]();
    throw error;
  }
}

/** A client that takes nothing of what is sent to it for so long is cut off. */
const stallMs = 60_000;
/** Streams with nothing to say say so this often. */
const pingMs = 15_000;
const defaultGraceMs = 30_000;

function apiOf(
  { model, name, apiKey, anyone, allowedHosts = [], corsOrigins = [] }: ServeOptions,
  host: string,
  sampling: SamplingParameters,
  served: () => LoadedModel | undefined,
): Omit<Api, "draining" | "stopping" | "followers" | "status"> {
  return {
    id: name ?? modelId(model),
    created: Math.floor(Date.now() / 1000),
    version,
    model: served,
    access: { apiKey: anyone ? undefined : apiKey, allowedHosts: [...allowedHosts, host], corsOrigins },
    sampling,
    pingMs,
    metrics: new ApiMetrics(),
  };
}

/** A model that is served. */
export class ModelServer implements AsyncDisposable {
  /** Where it is reached, such as `http://127.0.0.1:7710`. */
  readonly url: string;
  readonly #api: ApiServer;
  readonly #textModel: TextModel;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(api: ApiServer, textModel: TextModel) {
    this.url = api.url;
    this.#api = api;
    this.#textModel = textModel;
  }

  /** What OpenAI's clients call `baseURL`. */
  get baseUrl(): string {
    return `${this.url}/v1`;
  }

  /** Takes no more requests, lets running ones go on for `graceMs` (30 s if absent) at most, and frees the model. */
  async close({ graceMs = defaultGraceMs }: { graceMs?: number } = {}): Promise<void> {
    checkOptions("graceMs", z.number().min(0).max(86_400_000), graceMs);
    this.#closed ??= this.#api.close(graceMs).then(() => this.#textModel[Symbol.asyncDispose]());
    await this.#closed;
  }

  /** Ends it at once, unless it is ending already: requests that run fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close({ graceMs: 0 });
  }
}
