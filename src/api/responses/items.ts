import type { AnswerDelta } from "../../serving/answer/parser.ts";
import { newId } from "../context.ts";
import type { ContentLogprob } from "../logprobs.ts";
import type { AnswerPiece } from "../writing.ts";

type Status = "in_progress" | "completed" | "incomplete";

/** A part of a response, as it is written. */
export interface OutputItem {
  readonly id: string;
  readonly kind: AnswerDelta["kind"];
  /** Of a function call. */
  readonly callId: string;
  readonly name: string;
  /** Of a function call: which one of the answer. */
  readonly call: number;
  text: string;
  readonly logprobs: ContentLogprob[];
  status: Status;
}

/** What happens to the items of a response, in order. */
export interface ItemEvents {
  readonly added: (item: OutputItem, index: number) => void;
  readonly extended: (item: OutputItem, index: number, text: string, logprobs: readonly ContentLogprob[]) => void;
  readonly done: (item: OutputItem, index: number) => void;
}

const prefixes = { content: "msg_", reasoning: "rs_", toolCall: "fc_" } as const;

/** Divides an answer into items: a new one begins where another kind of text does, or another call. */
export class OutputItems {
  readonly items: OutputItem[] = [];
  readonly #events: ItemEvents | undefined;
  /** Of tokens whose text is held back yet. */
  #logprobs: ContentLogprob[] = [];

  constructor(events?: ItemEvents) {
    this.#events = events;
  }

  add({ deltas, logprob }: AnswerPiece): void {
    if (logprob !== undefined) this.#logprobs.push(logprob);
    for (const delta of deltas) this.#take(delta);
  }

  /** Closes the last item; an answer without any has an empty message. */
  end(status: "completed" | "incomplete"): void {
    if (this.items.length === 0) this.#open({ kind: "content", text: "" });
    this.#close(status);
  }

  #take(delta: AnswerDelta): void {
    const text = delta.kind === "toolCall" ? delta.arguments : delta.text;
    const item = this.#continued(delta) ?? this.#open(delta);
    const logprobs = delta.kind === "content" ? this.#logprobs : [];
    this.#logprobs = [];
    item.text += text;
    item.logprobs.push(...logprobs);
    this.#events?.extended(item, this.items.length - 1, text, logprobs);
  }

  #continued(delta: AnswerDelta): OutputItem | undefined {
    const item = this.items.at(-1);
    return item?.kind === delta.kind && item.call === callOf(delta) ? item : undefined;
  }

  #open(delta: AnswerDelta): OutputItem {
    this.#close("completed");
    const item: OutputItem = {
      id: newId(prefixes[delta.kind]),
      kind: delta.kind,
      call: callOf(delta),
      callId: (delta.kind === "toolCall" ? delta.id : undefined) ?? newId("call_"),
      name: (delta.kind === "toolCall" ? delta.name : undefined) ?? "",
      text: "",
      logprobs: [],
      status: "in_progress",
    };
    this.items.push(item);
    this.#events?.added(item, this.items.length - 1);
    return item;
  }

  #close(status: Status): void {
    const item = this.items.at(-1);
    if (item === undefined) return;
    item.status = status;
    this.#events?.done(item, this.items.length - 1);
  }
}

function callOf(delta: AnswerDelta): number {
  return delta.kind === "toolCall" ? delta.index : -1;
}

/** The text part of a message. */
export function textPart({ text, logprobs }: OutputItem) {
  return { type: "output_text", text, annotations: [], logprobs };
}

/** An item as OpenAI's API writes it. */
export function itemObject(item: OutputItem): object {
  const { id, kind, status, text, callId, name } = item;
  switch (kind) {
    case "content":
      return {
        id,
        type: "message",
        role: "assistant",
        status,
        content: status === "in_progress" ? [] : [textPart(item)],
      };
    case "reasoning":
      return {
        id,
        type: "reasoning",
        status,
        summary: [],
        content: text === "" ? [] : [{ type: "reasoning_text", text }],
      };
    case "toolCall":
      return { id, type: "function_call", status, call_id: callId, name, arguments: text };
    default:
      return kind satisfies never;
  }
}
