import type { JSX } from "preact";
import { BinIcon, PlusIcon } from "../parts/icons.tsx";
import { useStore } from "../store.ts";
import { newConversation, type ShownConversation } from "./conversation.ts";
import { conversations, current, forget } from "./history.ts";

/** The conversations of this browser. On a narrow screen they lie over the others. */
export function Sidebar({ open, onClose }: { open: boolean; onClose: () => void }): JSX.Element {
  const all = useStore(conversations);
  const shown = useStore(current);
  const show = (conversation: ShownConversation) => {
    current.set(conversation);
    onClose();
  };
  return (
    <aside id="conversations" class={open ? "open" : ""} aria-label="Conversations">
      <button type="button" class="new" onClick={() => show(newConversation())}>
        <PlusIcon />
        New conversation
      </button>
      <ul>
        {all.map((conversation) => (
          <li key={conversation.id} class={conversation.id === shown.id ? "shown" : ""}>
            <Entry conversation={conversation} shown={conversation.id === shown.id} onShow={show} />
          </li>
        ))}
      </ul>
      <p class="note">Kept in this browser only.</p>
    </aside>
  );
}

interface EntryProps {
  readonly conversation: ShownConversation;
  readonly shown: boolean;
  readonly onShow: (conversation: ShownConversation) => void;
}

function Entry({ conversation, shown, onShow }: EntryProps): JSX.Element {
  const { id, title } = conversation;
  return (
    <>
      <button type="button" class="entry" aria-current={shown || undefined} onClick={() => onShow(conversation)}>
        {title}
      </button>
      <button type="button" class="quiet" aria-label={`Delete “${title}”`} title="Delete" onClick={() => forget(id)}>
        <BinIcon />
      </button>
    </>
  );
}
