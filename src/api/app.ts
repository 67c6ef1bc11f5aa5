import { Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { StelliumError } from "../errors.ts";
import { log } from "../log.ts";
import { chatCompletions } from "./chatCompletions.ts";
import { cluster, clusterEvents } from "./cluster.ts";
import { completions } from "./completions.ts";
import type { Api, ApiContext, ApiEnvironment } from "./context.ts";
import { createDashboard, dashboardPaths } from "./dashboard.ts";
import { embeddings } from "./embeddings.ts";
import { errorBody, statusOf } from "./errorBody.ts";
import { logFailure, toldError } from "./respond.ts";
import { responses } from "./responses/responses.ts";
import { apiHeaders, checkHost, checkKey, checkSite, crossOriginHeaders, keyOf, preflightHeaders } from "./security.ts";
import { health, metrics, modelById, models, props, slots } from "./state.ts";
import { applyTemplate, detokenize, tokenize } from "./texts.ts";

type Handler = (api: Api, c: ApiContext) => Response | Promise<Response>;

const getRoutes: Readonly<Record<string, Handler>> = {
  health,
  models,
  metrics,
  props,
  slots,
  cluster,
  "cluster/events": clusterEvents,
};

const postRoutes: Readonly<Record<string, Handler>> = {
  "chat/completions": chatCompletions,
  completions,
  responses,
  embeddings,
  tokenize,
  detokenize,
  "apply-template": applyTemplate,
};

/** Every route is there with and without it. */
const prefixes = ["/", "/v1/"];

/** The OpenAI-compatible API, from requests to responses; sockets are somebody else's. */
export function createApp(api: Api): Hono<ApiEnvironment> {
  const app = new Hono<ApiEnvironment>();
  app.use(async (c, next) => {
    const started = performance.now();
    for (const [name, value] of Object.entries(apiHeaders)) c.header(name, value);
    await next();
    if (api.draining.aborted) c.header("Connection", "close");
    account(api, c, started);
  });
  app.use(async (c, next) => {
    const answered = guard(api, c);
    if (answered === undefined) await next();
    return answered;
  });
  for (const prefix of prefixes) addRoutes(app, api, prefix);
  const dashboard = createDashboard(api.access.apiKey !== undefined);
  for (const path of dashboardPaths) app.get(path, dashboard);
  app.notFound((c) => failure(api, new StelliumError("NOT_FOUND", { what: "such path" }), c));
  app.onError((error, c) => failure(api, error, c));
  return app;
}

function addRoutes(app: Hono<ApiEnvironment>, api: Api, prefix: string): void {
  for (const [path, handler] of Object.entries(getRoutes)) app.get(prefix + path, (c) => handler(api, c));
  for (const [path, handler] of Object.entries(postRoutes)) app.post(prefix + path, (c) => handler(api, c));
  app.get(`${prefix}models/:id{.+}`, (c) => modelById(api, c, c.req.param("id")));
  for (const path of [...Object.keys(getRoutes), ...Object.keys(postRoutes), "models/:id{.+}"]) {
    app.all(prefix + path, (c) => {
      throw new StelliumError("METHOD_REFUSED", { path: c.req.path.slice(0, 200), method: c.req.method });
    });
  }
}

/** Lets those in who may. Answers what pages of other origins ask beforehand. Throws why somebody may not. */
function guard({ access, draining }: Api, c: ApiContext): Response | undefined {
  const host = c.req.header("host") ?? new URL(c.req.url).host;
  checkHost(host, access);
  const isPage = dashboardPaths.includes(c.req.path);
  checkSite(c.req.raw.headers, isPage && c.req.method === "GET", access);
  const crossOrigin = crossOriginHeaders(c.req.header("origin"), host, access);
  for (const [name, value] of Object.entries(crossOrigin)) c.header(name, value);
  if (c.req.method === "OPTIONS") return c.body(null, 204, preflightHeaders);
  if (/^(\/v1)?\/health$/.test(c.req.path) || isPage) return undefined;
  checkKey(keyOf(c.req.raw.headers), access);
  if (draining.aborted) throw new StelliumError("SERVER_STOPPING");
  return undefined;
}

function failure(api: Api, error: Error, c: ApiContext): Response {
  logFailure(error);
  const told = toldError(api, error);
  return c.json(errorBody(told), statusOf(told) as ContentfulStatusCode);
}

/** Counts a request and tells the log of it, when its answer has ended. */
function account(api: Api, c: ApiContext, started: number): void {
  const { status } = c.res;
  const { method, path } = c.req;
  void Promise.resolve(c.get("ended")).then((failed) => {
    const ms = Math.round(performance.now() - started);
    api.metrics.answered(routeOf(path), status, ms / 1000);
    const error = failed instanceof Error ? failed.message : undefined;
    log("info", "request", { method, path: path.slice(0, 200), status, ms, error });
  });
}

/** One of the API's own paths, or `other`. */
function routeOf(path: string): string {
  const plain = path.replace(/^\/(v1\/)?/, "");
  if (plain.startsWith("models/")) return "models/:id";
  return Object.hasOwn(getRoutes, plain) || Object.hasOwn(postRoutes, plain) ? plain : "other";
}
