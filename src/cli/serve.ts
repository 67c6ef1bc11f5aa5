import { ApiMetrics } from "../api/metrics.ts";
import { isLoopback } from "../api/security.ts";
import { LoadedModel, type ServedModel } from "../api/servedModel.ts";
import { ApiServer, serverBytes } from "../api/server.ts";
import { StatusBoard } from "../cluster/status/board.ts";
import { StatusFeed } from "../cluster/status/feed.ts";
import { version } from "../cluster/version.ts";
import { StelliumError } from "../errors.ts";
import { log, logsJson } from "../log.ts";
import { modelId } from "../models/modelName.ts";
import { sandboxBytes } from "../serving/sandbox/sandbox.ts";
import type { TextModel } from "../serving/textModel.ts";
import type { Values } from "./arguments/option.ts";
import { chooseTemplate } from "./chat/template.ts";
import type { Interruption } from "./interruption.ts";
import { loadModel } from "./loadModel.ts";
import { tellOfThisProcess } from "./processes/registry.ts";
import { requireModel } from "./requireModel.ts";
import type { serveOptions } from "./serveOptions.ts";

type ServeValues = Values<typeof serveOptions>;

/** Serves a model over HTTP until it is told to end, and then until running requests have ended. */
export async function serve(values: ServeValues, interruption: Interruption): Promise<void> {
  const { host = "127.0.0.1", grace } = values;
  requireModel(values.model);
  checkAccess(values, host);
  configureLog(values);
  let model: ServedModel | undefined;
  const board = new StatusBoard();
  const work = () => model && { slots: [...model.slots()], queued: model.queued, counters: model.counters };
  const status = new StatusFeed({ version, board, work });
  const server = await ApiServer.start({
    host,
    port: values.port,
    stallMs: values.stallTimeout * 1000,
    api: apiOf(values, host, status, () => model),
  });
  tellOfThisProcess({ model: values.model, address: server.url });
  say(`OPENAI_BASE_URL=${server.url}/v1`, { url: server.url });
  say(`dashboard: ${server.url}/`, { url: server.url });
  const { signal } = interruption;
  try {
    await using textModel = await loadUntil(values, signal, board);
    model = new LoadedModel(textModel, await chooseTemplate(textModel, values.chatTemplateFile));
    say(`serving ${idOf(values)} on ${server.url}`, { model: idOf(values), url: server.url });
    await aborted(signal);
    say(model.slots().some(({ state }) => state !== "idle") ? "ending when running requests have ended" : "ending", {});
    await server.close(grace * 1000);
    interruption.settle();
  } finally {
    await server.close(0);
  }
}

/** Loads the model. The signal stops that, but later not the cluster: running requests still need it. */
async function loadUntil(values: ServeValues, signal: AbortSignal, status: StatusBoard): Promise<TextModel> {
  const loading = new AbortController();
  const stop = () => loading.abort(signal.reason);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  try {
    const { parallel, queue, prefixCache: prefixBytes, prefixFile } = values;
    const requests = { parallel, queue, prefixBytes, prefixFile, hostBytes: serverBytes + sandboxBytes, status };
    return await loadModel(values, loading.signal, requests);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function apiOf(values: ServeValues, host: string, status: StatusFeed, model: () => ServedModel | undefined) {
  return {
    id: idOf(values),
    created: Math.floor(Date.now() / 1000),
    version,
    model,
    access: { apiKey: keyOf(values), allowedHosts: [...values.allowedHosts, host], corsOrigins: values.corsOrigins },
    sampling: values,
    pingMs: values.ssePingInterval * 1000,
    metrics: new ApiMetrics(),
    status,
  };
}

function idOf({ model = "", alias }: ServeValues): string {
  return alias ?? modelId(model);
}

function keyOf({ apiKey, noAuth }: ServeValues): string | undefined {
  return noAuth || apiKey === "" ? undefined : apiKey;
}

/** Refuses to serve others without a key, before anything is loaded. Throws `BAD_USAGE`. */
function checkAccess(values: ServeValues, host: string): void {
  if (isLoopback(host) || keyOf(values) !== undefined || values.noAuth) return;
  const detail = `others can reach ${host}: set --api-key or STELLIUM_API_KEY, or say --no-auth`;
  throw new StelliumError("BAD_USAGE", { detail });
}

/** Threads and processes that are started later read it in the environment. */
function configureLog({ logJson }: ServeValues): void {
  process.env["STELLIUM_LOG"] ||= "info";
  if (logJson) process.env["STELLIUM_LOG_JSON"] = "1";
}

/** Tells what whoever started the server has to know, also where nothing else is logged. */
function say(text: string, fields: Record<string, string>): void {
  if (logsJson()) log("info", text, fields);
  else process.stderr.write(`${text}\n`);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
