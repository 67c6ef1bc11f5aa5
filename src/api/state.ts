import { StelliumError } from "../errors.ts";
import type { SlotState } from "../serving/scheduler.ts";
import { type Api, type ApiContext, fingerprint } from "./context.ts";
import { loadedModel } from "./respond.ts";

/** `GET /health`: 200 when requests are taken, 503 while the model loads and when the server is about to stop. */
export function health(api: Api, c: ApiContext): Response {
  const reason = api.draining.aborted ? "Stopping" : api.model() === undefined ? "Loading model" : undefined;
  if (reason === undefined) return c.json({ status: "ok" });
  return c.json({ error: { code: 503, message: reason, type: "unavailable_error", param: null } }, 503);
}

/** `GET /v1/models`. */
export function models(api: Api, c: ApiContext): Response {
  return c.json({ object: "list", data: [modelEntry(api)] });
}

/** `GET /v1/models/:id`; names may have slashes. */
export function modelById(api: Api, c: ApiContext, id: string): Response {
  if (id === api.id) return c.json(modelEntry(api));
  throw new StelliumError("NOT_FOUND", { what: `model ${JSON.stringify(id.slice(0, 200))}`, param: "model" });
}

/** `GET /metrics`. */
export function metrics(api: Api, c: ApiContext): Response {
  c.header("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  return c.body(api.metrics.render(api.model()));
}

/** `GET /slots`: what each of the sequences computed at the same time is doing. */
export function slots(api: Api, c: ApiContext): Response {
  return c.json(loadedModel(api).slots().map(slotEntry));
}

/** `GET /props`: how the server was started. */
export function props(api: Api, c: ApiContext): Response {
  const model = loadedModel(api);
  const { tokenizer } = model;
  const spelled = (token: number) => (token < 0 ? "" : tokenizer.text(token));
  return c.json({
    default_generation_settings: { n_ctx: model.context, params: samplingEntry(api) },
    total_slots: model.slots().length,
    model_alias: api.id,
    model_path: model.facts.file,
    chat_template: model.chat.source,
    bos_token: spelled(tokenizer.bos),
    eos_token: spelled(tokenizer.eos),
    modalities: { vision: false, audio: false },
    build_info: fingerprint(api),
  });
}

function samplingEntry({ sampling }: Api) {
  return {
    seed: sampling.seed ?? -1,
    temperature: sampling.temperature,
    top_k: sampling.topK,
    top_p: sampling.topP,
    min_p: sampling.minP,
    repeat_penalty: sampling.repeatPenalty,
    repeat_last_n: sampling.penaltyLastN,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    logit_bias: [...sampling.logitBias],
  };
}

function modelEntry(api: Api) {
  const served = api.model();
  const meta = served && {
    n_vocab: served.facts.vocabularySize,
    n_ctx: served.context,
    n_ctx_train: served.facts.trainedContext,
    n_embd: served.facts.embeddingLength,
    n_params: served.facts.parameters,
    size: served.facts.bytes,
  };
  return {
    id: api.id,
    name: api.id,
    object: "model",
    created: api.created,
    owned_by: "stellium",
    architecture: { input_modalities: ["text"], output_modalities: ["text"] },
    ...(meta && { meta }),
  };
}

/** By llama.cpp's names where meanings match. */
function slotEntry({ id, state, promptTokens, cachedTokens, generatedTokens, context }: SlotState) {
  return {
    id,
    n_ctx: context,
    is_processing: state !== "idle",
    state,
    n_prompt_tokens: promptTokens,
    n_prompt_tokens_cache: cachedTokens,
    n_decoded: generatedTokens,
  };
}
