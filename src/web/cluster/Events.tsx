import type { JSX } from "preact";
import type { ClusterEvent } from "../../cluster/status/schema.ts";
import { timeText } from "../words.ts";

const shown = 12;

/** What happened, the last first. */
export function Events({ events }: { events: readonly ClusterEvent[] }): JSX.Element {
  const last = events.slice(-shown).reverse();
  return (
    <section class="events" aria-labelledby="events">
      <h2 id="events">What happened</h2>
      <ol>
        {last.map(({ id, at, kind, text }) => (
          <li key={id} class={kind}>
            <time dateTime={new Date(at).toISOString()}>{timeText(at)}</time>
            <span>{text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
