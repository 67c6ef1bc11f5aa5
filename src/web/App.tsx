import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { ChatView } from "./chat/ChatView.tsx";
import { ClusterView } from "./cluster/ClusterView.tsx";
import { KeyDialog } from "./parts/KeyDialog.tsx";
import { TopBar } from "./parts/TopBar.tsx";
import { type Route, route } from "./route.ts";
import { useStore } from "./store.ts";

const titles: Record<Route, string> = { chat: "Chat", cluster: "Cluster" };

/** The page. */
export function App(): JSX.Element {
  const shown = useStore(route);
  useEffect(() => {
    document.title = `${titles[shown]} · Stellium`;
    scrollTo(0, 0);
  }, [shown]);
  return (
    <>
      <TopBar shown={shown} />
      <main tabIndex={-1} class={shown}>
        {shown === "chat" ? <ChatView /> : <ClusterView />}
      </main>
      <KeyDialog />
    </>
  );
}
