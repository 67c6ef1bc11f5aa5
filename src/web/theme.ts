import { Store } from "./store.ts";

const place = "stellium.theme";

/** How the page looks. */
export type Theme = "light" | "dark";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** What was chosen here, else what the system says. */
export const theme = new Store<Theme>(chosen() ?? ofSystem());

/** Has the page look as it should, and follow the system until something is chosen here. */
export function followTheme(): void {
  const apply = (value: Theme) => document.documentElement.setAttribute("data-theme", value);
  apply(theme.value);
  theme.subscribe(apply);
  systemDark.addEventListener("change", () => {
    if (chosen() === undefined) theme.set(ofSystem());
  });
}

/** Changes between light and dark, and remembers it. */
export function toggleTheme(): void {
  const next = theme.value === "dark" ? "light" : "dark";
  localStorage.setItem(place, next);
  theme.set(next);
}

function chosen(): Theme | undefined {
  const kept = localStorage.getItem(place);
  return kept === "light" || kept === "dark" ? kept : undefined;
}

function ofSystem(): Theme {
  return systemDark.matches ? "dark" : "light";
}
