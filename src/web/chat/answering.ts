import { eventData } from "../net/events.ts";
import { errorIn, request } from "../net/request.ts";
import { Store } from "../store.ts";
import { newMessage, type ShownConversation, type ShownMessage, withMessages } from "./conversation.ts";
import { current, keep, settings } from "./history.ts";

/** An answer that is being written. */
interface Answering {
  readonly conversation: string;
  readonly stop: AbortController;
}

/** Set while an answer is being written. */
export const answering = new Store<Answering | undefined>(undefined);

/** Asks a question in the conversation that is shown. */
export function ask(text: string): void {
  void answer(current.value, [...current.value.messages, newMessage("user", text)]);
}

/** Has the answer at `index` written anew; what follows it is dropped. */
export function regenerate(index: number): void {
  void answer(current.value, current.value.messages.slice(0, index));
}

/** Asks another question in place of the one at `index`; what follows it is dropped. */
export function askInstead(index: number, text: string): void {
  void answer(current.value, [...current.value.messages.slice(0, index), newMessage("user", text)]);
}

/** Ends the answer that is being written. What there is of it stays. */
export function stop(): void {
  answering.value?.stop.abort();
}

async function answer(conversation: ShownConversation, messages: readonly ShownMessage[]): Promise<void> {
  if (answering.value !== undefined) return;
  const controller = new AbortController();
  const draft = new Draft(conversation, messages);
  answering.set({ conversation: conversation.id, stop: controller });
  try {
    await write(draft, messages, controller.signal);
    draft.finish({});
  } catch (error) {
    const stopped = controller.signal.aborted;
    draft.finish(stopped ? { stopped } : { failure: error instanceof Error ? error.message : String(error) });
  } finally {
    answering.set(undefined);
  }
}

async function write(draft: Draft, messages: readonly ShownMessage[], signal: AbortSignal): Promise<void> {
  const { system, ...sampling } = settings.value;
  const said = messages.map(({ role, content }) => ({ role, content }));
  const body = {
    ...sampling,
    messages: system.trim() === "" ? said : [{ role: "system", content: system }, ...said],
    stream: true,
  };
  const headers = { "Content-Type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify(body), signal };
  for await (const data of eventData(await request("/v1/chat/completions", init))) {
    if (data === "[DONE]") return;
    draft.take(JSON.parse(data) as Chunk);
  }
  throw new Error("The connection to the server was lost.");
}

/** What the server sends of an answer, as far as it is shown. */
interface Chunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string; readonly reasoning_content?: string } }[];
  readonly timings?: { readonly predicted_n: number; readonly predicted_per_second: number };
}

/** An answer in the making. It is shown once for each frame of the screen, however fast tokens come. */
class Draft {
  readonly #conversation: ShownConversation;
  readonly #before: readonly ShownMessage[];
  readonly #asked = performance.now();
  #message = newMessage("assistant", "");
  #first = 0;
  #pieces = 0;
  #frame = 0;

  constructor(conversation: ShownConversation, before: readonly ShownMessage[]) {
    this.#conversation = conversation;
    this.#before = before;
    this.#show();
  }

  take(chunk: Chunk): void {
    const failure = errorIn(chunk);
    if (failure !== undefined) throw failure;
    const delta = chunk.choices?.[0]?.delta;
    const [content = "", reasoning = ""] = [delta?.content, delta?.reasoning_content];
    if (content !== "" || reasoning !== "") this.#add(content, reasoning);
    if (chunk.timings !== undefined) this.#measure(chunk.timings.predicted_n, chunk.timings.predicted_per_second);
    this.#frame ||= requestAnimationFrame(() => this.#show());
  }

  /** Shows the answer as it is, and keeps it. */
  finish(end: Pick<ShownMessage, "failure" | "stopped">): void {
    cancelAnimationFrame(this.#frame);
    this.#message = { ...this.#message, ...end };
    keep(this.#now());
  }

  #add(content: string, reasoning: string): void {
    const now = performance.now();
    if (this.#pieces++ === 0) this.#first = now;
    const before = this.#message;
    const thought = (before.reasoning ?? "") + reasoning;
    const all = { ...before, content: before.content + content };
    this.#message = thought === "" ? all : { ...all, reasoning: thought };
    // The first token took the prompt's time.
    if (this.#pieces > 1) this.#measure(this.#pieces, ((this.#pieces - 1) * 1000) / (now - this.#first));
  }

  #measure(tokens: number, tokensPerSecond: number): void {
    const firstTokenMs = Math.max(0, this.#first - this.#asked);
    this.#message = { ...this.#message, stats: { tokens, tokensPerSecond, firstTokenMs } };
  }

  #show(): void {
    this.#frame = 0;
    if (current.value.id === this.#conversation.id) current.set(this.#now());
  }

  #now(): ShownConversation {
    return withMessages(this.#conversation, [...this.#before, this.#message]);
  }
}
