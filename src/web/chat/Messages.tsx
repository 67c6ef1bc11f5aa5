import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { watched } from "../net/status.ts";
import { useStore } from "../store.ts";
import { Answer } from "./Answer.tsx";
import { answering } from "./answering.ts";
import { current } from "./history.ts";
import { Question } from "./Question.tsx";

/** So near the end of the page, a reader wants to see what comes. */
const nearEnd = 120;

/** What was said. While an answer comes, the page stays at its end, unless one has scrolled up. */
export function Messages(): JSX.Element {
  const { id, messages } = useStore(current);
  const busy = useStore(answering);
  const writing = busy?.conversation === id;
  useEndOfPage(messages.at(-1), id);
  if (messages.length === 0) return <Welcome />;
  return (
    <div class="messages" aria-busy={writing}>
      {messages.map((message, index) =>
        message.role === "user" ? (
          <Question key={message.id} message={message} index={index} locked={busy !== undefined} />
        ) : (
          <Answer
            key={message.id}
            message={message}
            index={index}
            locked={busy !== undefined}
            writing={writing && index === messages.length - 1}
          />
        ),
      )}
      <p class="visually-hidden" role="status">
        {writing ? "The model is writing." : "The answer is complete."}
      </p>
    </div>
  );
}

/** Keeps the end of the page in view at every change of `last`, if it was; and shows it for another conversation. */
function useEndOfPage(last: unknown, id: string): void {
  const follows = useRef(true);
  useEffect(() => {
    const look = () => {
      const { scrollHeight, clientHeight } = document.documentElement;
      follows.current = scrollHeight - clientHeight - scrollY < nearEnd;
    };
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);
  useEffect(() => {
    follows.current = true;
  }, [id]);
  useEffect(() => {
    if (follows.current) scrollTo(0, document.documentElement.scrollHeight);
  }, [last]);
}

function Welcome(): JSX.Element {
  const { status } = useStore(watched);
  const count = status?.devices.length ?? 1;
  return (
    <div class="welcome">
      <p class="display">What would you like to know?</p>
      <p>
        {status?.model?.name ? <strong>{status.model.name}</strong> : "The model"} answers from{" "}
        {count === 1 ? "one device" : `${count} devices`} of yours. What you write stays between them and this browser.
      </p>
    </div>
  );
}
