import { setImmediate } from "node:timers/promises";
import type { ApiContext } from "./context.ts";

/** An object with a long list in it. */
export interface LongList<T> {
  /** The list's field. */
  readonly name: string;
  readonly elements: ArrayLike<T>;
  /** What becomes JSON of an element. */
  readonly element: (element: T, index: number) => unknown;
  /** Fields beside the list. */
  readonly others?: object;
}

/** Characters that are written in a row. */
const longestPiece = 2 ** 14;

/** Answers with an object whose list is written piece by piece, as the client takes it: the event loop runs between them. */
export function respondList<T>(c: ApiContext, list: LongList<T>): Response {
  const encoder = new TextEncoder();
  const pieces = piecesOf(list);
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const { done, value } = pieces.next();
        if (done) return controller.close();
        controller.enqueue(encoder.encode(value));
        await setImmediate();
      },
    },
    { highWaterMark: 0 },
  );
  return c.body(body, 200, { "Content-Type": "application/json" });
}

function* piecesOf<T>({ name, elements, element, others = {} }: LongList<T>): Generator<string, void> {
  const fields = JSON.stringify(others).slice(0, -1);
  let piece = `${fields}${fields === "{" ? "" : ","}${JSON.stringify(name)}:[`;
  for (let i = 0; i < elements.length; i++) {
    piece += `${i === 0 ? "" : ","}${JSON.stringify(element(elements[i]!, i))}`;
    if (piece.length < longestPiece) continue;
    yield piece;
    piece = "";
  }
  yield `${piece}]}`;
}
