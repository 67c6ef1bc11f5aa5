import type { ServedModel } from "./servedModel.ts";

/** Seconds that bound the buckets of histograms. */
const bounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

/** How often values fell into which bucket. */
class Histogram {
  readonly #buckets = new Array<number>(bounds.length).fill(0);
  #count = 0;
  #sum = 0;

  observe(seconds: number): void {
    this.#count++;
    this.#sum += seconds;
    for (const [i, bound] of bounds.entries()) if (seconds <= bound) this.#buckets[i]!++;
  }

  lines(name: string): string[] {
    const buckets = bounds.map((bound, i) => `${name}_bucket{le="${bound}"} ${this.#buckets[i]}`);
    return [
      ...buckets,
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}

/** What the API counts of its own. */
export class ApiMetrics {
  readonly #requests = new Map<string, number>();
  readonly #durations = new Histogram();
  readonly #firstTokens = new Histogram();
  #failedStreams = 0;

  /** A request has been answered to the end. `route` is one of the API's own paths: labels must not grow. */
  answered(route: string, status: number, seconds: number): void {
    const labels = `route="${route}",status="${status}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    this.#durations.observe(seconds);
  }

  /** The first token of an answer came, so long after its request. */
  firstToken(seconds: number): void {
    this.#firstTokens.observe(seconds);
  }

  /** A stream that had begun ended by an error. */
  streamFailed(): void {
    this.#failedStreams++;
  }

  /** Everything in Prometheus' text format; without a model, what is known without one. */
  render(model: ServedModel | undefined): string {
    const requests = [...this.#requests].map(([labels, count]) => `stellium_http_requests_total{${labels}} ${count}`);
    const lines = [
      ...(model === undefined ? [] : modelLines(model)),
      ...described("stellium_http_requests_total", "counter", "Requests that were answered.", requests),
      ...histogram("stellium_http_request_seconds", "Time to the end of an answer.", this.#durations),
      ...histogram("stellium_first_token_seconds", "Time to the first token of an answer.", this.#firstTokens),
      ...single("stellium_failed_streams_total", "counter", "Streams that ended by an error.", this.#failedStreams),
      ...single("process_resident_memory_bytes", "gauge", "Memory in use.", process.memoryUsage.rss()),
    ];
    return `${lines.join("\n")}\n`;
  }
}

/** Names that begin with `llamacpp:` mean what they mean in llama.cpp's server. */
function modelLines(model: ServedModel): string[] {
  const { counters, queued } = model;
  const { promptTokens, cachedTokens, generatedTokens, prefillSeconds, decodeSeconds, steps } = counters;
  const slots = model.slots();
  const busy = slots.filter(({ state }) => state !== "idle").length;
  const rate = (count: number, seconds: number) => (seconds > 0 ? count / seconds : 0);
  const ends = Object.entries(counters.requests);
  const requests = ends.map(([outcome, count]) => `stellium_requests_total{outcome="${outcome}"} ${count}`);
  return [
    ...single("llamacpp:prompt_tokens_total", "counter", "Prompt tokens processed.", promptTokens),
    ...single("llamacpp:prompt_seconds_total", "counter", "Time of steps with prompts.", prefillSeconds),
    ...single("llamacpp:tokens_predicted_total", "counter", "Tokens generated.", generatedTokens),
    ...single("llamacpp:tokens_predicted_seconds_total", "counter", "Time of steps without prompts.", decodeSeconds),
    ...single("llamacpp:prompt_tokens_seconds", "gauge", "Prompt tokens a second.", rate(promptTokens, prefillSeconds)),
    ...single("llamacpp:predicted_tokens_seconds", "gauge", "Tokens a second.", rate(generatedTokens, decodeSeconds)),
    ...single("llamacpp:n_decode_total", "counter", "Steps.", steps),
    ...single("llamacpp:requests_processing", "gauge", "Requests in a slot.", busy),
    ...single("llamacpp:requests_deferred", "gauge", "Requests that wait for a slot.", queued),
    ...single("stellium_cached_prompt_tokens_total", "counter", "Prompt tokens found in the KV cache.", cachedTokens),
    ...single("stellium_slots", "gauge", "Sequences computed at the same time, at most.", slots.length),
    ...described("stellium_requests_total", "counter", "Sequences that ended, and requests refused.", requests),
  ];
}

function single(name: string, type: string, help: string, value: number): string[] {
  return described(name, type, help, [`${name} ${value}`]);
}

function histogram(name: string, help: string, values: Histogram): string[] {
  return described(name, "histogram", help, values.lines(name));
}

function described(name: string, type: string, help: string, lines: readonly string[]): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines];
}
