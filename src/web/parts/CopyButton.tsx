import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CheckIcon, CopyIcon } from "./icons.tsx";

const shownMs = 1600;

/** Copies a text, and says that it did. */
export function CopyButton({ text, label, words }: { text: string; label: string; words?: boolean }): JSX.Element {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), shownMs);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button type="button" class="quiet" title={label} onClick={() => void copy(text).then(setCopied)}>
      {copied ? <CheckIcon /> : <CopyIcon />}
      <span class={words ? "" : "visually-hidden"} aria-live="polite">
        {copied ? "Copied" : words ? "Copy" : label}
      </span>
    </button>
  );
}

/** Browsers have a clipboard on secure origins only; a server in the house is none, and they still have the old way. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
