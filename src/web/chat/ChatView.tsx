import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { DialsIcon, ListIcon, PlusIcon } from "../parts/icons.tsx";
import { useStore } from "../store.ts";
import { Composer } from "./Composer.tsx";
import { newConversation } from "./conversation.ts";
import { current } from "./history.ts";
import { Messages } from "./Messages.tsx";
import { SettingsDialog } from "./SettingsDialog.tsx";
import { Sidebar } from "./Sidebar.tsx";

/** Conversations with the model. */
export function ChatView(): JSX.Element {
  const [listed, setListed] = useState(false);
  const [adjusting, setAdjusting] = useState(false);
  return (
    <>
      <Sidebar open={listed} onClose={() => setListed(false)} />
      <section class="talk" aria-label="Conversation">
        <TalkBar listed={listed} onList={() => setListed(!listed)} onAdjust={() => setAdjusting(true)} />
        <Messages />
        <Composer />
      </section>
      <SettingsDialog open={adjusting} onClose={() => setAdjusting(false)} />
    </>
  );
}

interface TalkBarProps {
  readonly listed: boolean;
  readonly onList: () => void;
  readonly onAdjust: () => void;
}

function TalkBar({ listed, onList, onAdjust }: TalkBarProps): JSX.Element {
  const { title } = useStore(current);
  return (
    <div class="talk-bar">
      <button
        type="button"
        class="quiet only-narrow"
        aria-expanded={listed}
        aria-controls="conversations"
        aria-label="Conversations"
        onClick={onList}
      >
        <ListIcon />
      </button>
      <h1>{title}</h1>
      <button type="button" class="quiet" onClick={onAdjust}>
        <DialsIcon />
        <span class="wide-label">Settings</span>
      </button>
      <button
        type="button"
        class="quiet only-narrow"
        aria-label="New conversation"
        onClick={() => current.set(newConversation())}
      >
        <PlusIcon />
      </button>
    </div>
  );
}
