import type { JSX } from "preact";
import { CopyButton } from "../parts/CopyButton.tsx";
import { AgainIcon } from "../parts/icons.tsx";
import { Markdown } from "../parts/markdown.tsx";
import { durationText, figure } from "../words.ts";
import { regenerate } from "./answering.ts";
import type { AnswerStats, ShownMessage } from "./conversation.ts";
import type { MessageProps } from "./Question.tsx";

/** What the model said. */
export function Answer({ message, index, locked, writing }: MessageProps & { writing: boolean }): JSX.Element {
  const { content, reasoning, failure, stopped, stats } = message;
  const begun = content !== "" || reasoning !== undefined;
  return (
    <article class={writing ? "answer writing" : "answer"} aria-label="The model">
      {reasoning !== undefined && <Thoughts text={reasoning} open={writing && content === ""} />}
      {content !== "" && <Markdown text={content} />}
      {writing && !begun && <p class="pending">Reading the prompt</p>}
      {failure !== undefined && (
        <p class="failure" role="alert">
          {failure}
        </p>
      )}
      {!writing && (
        <footer>
          <div class="actions">
            <CopyButton text={content} label="Copy this answer" />
            <AgainButton index={index} locked={locked} />
          </div>
          <Stats stats={stats} stopped={stopped === true} />
        </footer>
      )}
      {writing && stats !== undefined && (
        <footer>
          <Stats stats={stats} stopped={false} />
        </footer>
      )}
    </article>
  );
}

function AgainButton({ index, locked }: { index: number; locked: boolean }): JSX.Element {
  return (
    <button
      type="button"
      class="quiet"
      aria-label="Write this answer anew"
      title="Write anew"
      disabled={locked}
      onClick={() => regenerate(index)}
    >
      <AgainIcon />
    </button>
  );
}

/** What the model thought: open while there is nothing else to read. */
function Thoughts({ text, open }: { text: string; open: boolean }): JSX.Element {
  return (
    <details class="thoughts" open={open}>
      <summary>Thoughts</summary>
      <Markdown text={text} />
    </details>
  );
}

function Stats({ stats, stopped }: { stats: AnswerStats | undefined; stopped: boolean }): JSX.Element {
  const parts: ShownMessage["content"][] = stopped ? ["stopped"] : [];
  if (stats !== undefined) {
    parts.push(`${figure(stats.tokensPerSecond)} tokens/s`);
    parts.push(`first after ${durationText(stats.firstTokenMs)}`);
    parts.push(`${stats.tokens} ${stats.tokens === 1 ? "token" : "tokens"}`);
  }
  return <p class="stats">{parts.join(" · ")}</p>;
}
