import type { EventStream } from "../eventStream.ts";
import type { ContentLogprob } from "../logprobs.ts";
import { type ItemEvents, itemObject, type OutputItem, textPart } from "./items.ts";

/** Writes the events of a streamed response, each with the number it has in the stream. */
export class ResponseEvents implements ItemEvents {
  readonly #stream: EventStream;
  #sequence = 0;

  constructor(stream: EventStream) {
    this.#stream = stream;
  }

  /** Sends an event of a type, which its data repeats. */
  send(type: string, data: object): void {
    this.#stream.send({ type, sequence_number: this.#sequence++, ...data }, type);
  }

  added(item: OutputItem, index: number): void {
    this.send("response.output_item.added", { output_index: index, item: itemObject(item) });
    if (item.kind !== "content") return;
    this.send("response.content_part.added", { ...place(item, index), content_index: 0, part: textPart(item) });
  }

  extended(item: OutputItem, index: number, delta: string, logprobs: readonly ContentLogprob[]): void {
    const at = place(item, index);
    if (item.kind === "toolCall") this.send("response.function_call_arguments.delta", { ...at, delta });
    else if (item.kind === "reasoning") this.send("response.reasoning_text.delta", { ...at, content_index: 0, delta });
    else this.send("response.output_text.delta", { ...at, content_index: 0, delta, logprobs });
  }

  done(item: OutputItem, index: number): void {
    const at = place(item, index);
    if (item.kind === "content") this.#textDone(item, at);
    if (item.kind === "reasoning")
      this.send("response.reasoning_text.done", { ...at, content_index: 0, text: item.text });
    if (item.kind === "toolCall") {
      this.send("response.function_call_arguments.done", { ...at, name: item.name, arguments: item.text });
    }
    this.send("response.output_item.done", { output_index: index, item: itemObject(item) });
  }

  #textDone(item: OutputItem, at: object): void {
    const { text, logprobs } = item;
    this.send("response.output_text.done", { ...at, content_index: 0, text, logprobs });
    this.send("response.content_part.done", { ...at, content_index: 0, part: textPart(item) });
  }
}

function place({ id }: OutputItem, index: number) {
  return { item_id: id, output_index: index };
}
