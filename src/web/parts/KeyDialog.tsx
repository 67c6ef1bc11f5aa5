import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { keyQuestion } from "../net/key.ts";
import { useStore } from "../store.ts";
import { Dialog } from "./Dialog.tsx";

/** Asks for the API key, where the server wants one. */
export function KeyDialog(): JSX.Element {
  const question = useStore(keyQuestion);
  const [key, setKey] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (key !== "") question?.answer(key);
    setKey("");
  };
  return (
    <Dialog title="This server wants its key" open={question !== undefined}>
      <form onSubmit={submit}>
        <p>It was started with --api-key or STELLIUM_API_KEY. The key is kept in this tab, until you close it.</p>
        {question?.rejected && (
          <p class="failure" role="alert">
            The server did not take that key.
          </p>
        )}
        <label class="field">
          Key
          <input
            type="password"
            autocomplete="off"
            required
            value={key}
            onInput={({ currentTarget }) => setKey(currentTarget.value)}
          />
        </label>
        <div class="buttons">
          <button type="submit" class="strong">
            Use this key
          </button>
        </div>
      </form>
    </Dialog>
  );
}
