import { Store } from "./store.ts";

/** The parts of the page. */
export type Route = "chat" | "cluster";

/** The part that is shown: what follows `#/` in the address. */
export const route = new Store<Route>(read());

addEventListener("hashchange", () => route.set(read()));

function read(): Route {
  return location.hash === "#/cluster" ? "cluster" : "chat";
}
