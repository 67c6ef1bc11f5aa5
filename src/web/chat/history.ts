import { Store } from "../store.ts";
import { type ChatSettings, newConversation, type ShownConversation } from "./conversation.ts";

const prefix = "stellium.chat.";
const settingsPlace = "stellium.settings";
const mostConversations = 200;

/** All conversations of this browser, the last one first. */
export const conversations = new Store<readonly ShownConversation[]>([]);
/** The one that is shown. */
export const current = new Store<ShownConversation>(newConversation());
/** Those of all conversations. */
export const settings = new Store<ChatSettings>({ system: "" });

/** Reads what this browser has kept, and shows the last conversation. Follows what other tabs do. */
export function openHistory(): void {
  readAll();
  const [last] = conversations.value;
  if (last !== undefined) current.set(last);
  settings.set({ system: "", ...(parsed(localStorage.getItem(settingsPlace)) as object) });
  settings.subscribe((value) => write(settingsPlace, value));
  addEventListener("storage", ({ key }) => {
    if (key === null || key.startsWith(prefix)) readAll();
  });
}

/** Shows a conversation as it is now, and keeps it. One without messages is not worth keeping. */
export function keep(conversation: ShownConversation): void {
  if (current.value.id === conversation.id) current.set(conversation);
  if (conversation.messages.length > 0) write(prefix + conversation.id, conversation);
  readAll();
}

/** Forgets a conversation. */
export function forget(id: string): void {
  localStorage.removeItem(prefix + id);
  readAll();
  if (current.value.id === id) current.set(conversations.value[0] ?? newConversation());
}

function readAll(): void {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  const read = keys.map((key) => parsed(localStorage.getItem(key))).filter(isConversation);
  read.sort((a, b) => b.updated - a.updated);
  for (const { id } of read.splice(mostConversations)) localStorage.removeItem(prefix + id);
  conversations.set(read);
}

/** A browser keeps some megabytes: where they are full, the oldest conversation makes room. */
function write(place: string, value: unknown): void {
  for (;;) {
    try {
      localStorage.setItem(place, JSON.stringify(value));
      return;
    } catch {
      const oldest = conversations.value.at(-1);
      if (oldest === undefined || prefix + oldest.id === place) return;
      localStorage.removeItem(prefix + oldest.id);
      readAll();
    }
  }
}

function parsed(text: string | null): unknown {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

function isConversation(value: unknown): value is ShownConversation {
  const { id, title, updated, messages } = (value ?? {}) as Partial<ShownConversation>;
  return typeof id === "string" && typeof title === "string" && typeof updated === "number" && Array.isArray(messages);
}
