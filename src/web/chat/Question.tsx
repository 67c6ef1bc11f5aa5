import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { CopyButton } from "../parts/CopyButton.tsx";
import { PenIcon } from "../parts/icons.tsx";
import { askInstead } from "./answering.ts";
import type { ShownMessage } from "./conversation.ts";

/** What a message is shown with. */
export interface MessageProps {
  readonly message: ShownMessage;
  readonly index: number;
  /** Nothing may be changed, since an answer is being written. */
  readonly locked: boolean;
}

/** What the user said, which can be said otherwise. */
export function Question({ message, index, locked }: MessageProps): JSX.Element {
  const [editing, setEditing] = useState(false);
  if (editing) return <Editor message={message} index={index} locked={locked} onClose={() => setEditing(false)} />;
  return (
    <article class="question" aria-label="You">
      <div class="text">{message.content}</div>
      <div class="actions">
        <CopyButton text={message.content} label="Copy this message" />
        <button
          type="button"
          class="quiet"
          aria-label="Edit this message"
          title="Edit"
          disabled={locked}
          onClick={() => setEditing(true)}
        >
          <PenIcon />
        </button>
      </div>
    </article>
  );
}

function Editor({ message, index, locked, onClose }: MessageProps & { onClose: () => void }): JSX.Element {
  const [text, setText] = useState(message.content);
  const send = (event: Event) => {
    event.preventDefault();
    if (locked || text.trim() === "") return;
    onClose();
    askInstead(index, text.trim());
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") onClose();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  return (
    <form class="editor" onSubmit={send}>
      <textarea
        aria-label="Your message"
        rows={3}
        value={text}
        ref={(area) => area?.focus()}
        onInput={({ currentTarget }) => setText(currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="buttons">
        <button type="button" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" class="strong" disabled={locked || text.trim() === ""}>
          Ask again
        </button>
      </div>
    </form>
  );
}
