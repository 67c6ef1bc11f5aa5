import type { JSX } from "preact";
import { glance } from "../cluster/words.ts";
import { watched } from "../net/status.ts";
import type { Route } from "../route.ts";
import { useStore } from "../store.ts";
import { theme, toggleTheme } from "../theme.ts";
import { MoonIcon, SunIcon } from "./icons.tsx";

/** Name, ways around, how the cluster is, and how the page looks. */
export function TopBar({ shown }: { shown: Route }): JSX.Element {
  return (
    <header class="top">
      <a class="skip" href={`#/${shown}`} onClick={() => document.querySelector("main")?.focus()}>
        Skip to the content
      </a>
      <a class="brand" href="#/chat" aria-label="Stellium">
        <Mark />
        <span aria-hidden="true">Stellium</span>
      </a>
      <nav aria-label="Main">
        <Way to="chat" shown={shown} name="Chat" />
        <Way to="cluster" shown={shown} name="Cluster" />
      </nav>
      <Glance />
      <ThemeButton />
    </header>
  );
}

function Way({ to, shown, name }: { to: Route; shown: Route; name: string }): JSX.Element {
  return (
    <a href={`#/${to}`} aria-current={to === shown ? "page" : undefined}>
      {name}
    </a>
  );
}

/** Three bodies, close together. */
function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <circle cx="11" cy="19" r="8" class="body-0" />
      <circle cx="21.5" cy="17.5" r="6" class="body-1" />
      <circle cx="17" cy="8.5" r="4.5" class="body-2" />
    </svg>
  );
}

function Glance(): JSX.Element {
  const { tone, text } = glance(useStore(watched));
  return (
    <a class={`glance ${tone}`} href="#/cluster">
      <span class="dot" aria-hidden="true" />
      {text}
    </a>
  );
}

function ThemeButton(): JSX.Element {
  const dark = useStore(theme) === "dark";
  const label = dark ? "Light colours" : "Dark colours";
  return (
    <button type="button" class="quiet" aria-label={label} title={label} onClick={toggleTheme}>
      {dark ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}
