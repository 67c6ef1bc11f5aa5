import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { type Watched, watched } from "../net/status.ts";
import { SendIcon, StopIcon } from "../parts/icons.tsx";
import { useStore } from "../store.ts";
import { answering, ask, stop } from "./answering.ts";

/** Where questions are written. Enter sends, Shift and Enter begin a line. */
export function Composer(): JSX.Element {
  const [text, setText] = useState("");
  const busy = useStore(answering) !== undefined;
  const ready = isReady(useStore(watched));
  const area = useRef<HTMLTextAreaElement>(null);
  const send = (event: Event) => {
    event.preventDefault();
    if (busy || !ready || text.trim() === "") return;
    ask(text.trim());
    setText("");
    area.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
    if (event.key === "Escape" && busy) stop();
  };
  return (
    <form class="composer" onSubmit={send}>
      <div class="box">
        <textarea
          ref={area}
          rows={1}
          aria-label="Message"
          placeholder={ready ? "Write a message" : "The model is not ready yet"}
          value={text}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {busy ? (
          <button type="button" class="strong round" aria-label="Stop" title="Stop (Escape)" onClick={stop}>
            <StopIcon />
          </button>
        ) : (
          <button
            type="submit"
            class="strong round"
            aria-label="Send"
            title="Send"
            disabled={!ready || text.trim() === ""}
          >
            <SendIcon />
          </button>
        )}
      </div>
    </form>
  );
}

/** Where a device is missing, a request waits for it, or says which one it was. */
function isReady({ status }: Watched): boolean {
  return status?.state === "ready" || status?.state === "mending";
}
