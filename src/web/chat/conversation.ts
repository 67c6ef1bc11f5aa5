/** What was measured of an answer. */
export interface AnswerStats {
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** From sending the question to the first token. */
  readonly firstTokenMs: number;
}

/** Something that was said. */
export interface ShownMessage {
  readonly id: string;
  readonly role: "user" | "assistant";
  readonly content: string;
  /** What the model thought before it answered. */
  readonly reasoning?: string;
  readonly stats?: AnswerStats;
  /** Why the answer has no end. */
  readonly failure?: string;
  readonly stopped?: boolean;
}

/** Messages that follow on each other. */
export interface ShownConversation {
  readonly id: string;
  readonly title: string;
  /** When it was changed last, in milliseconds since 1970. */
  readonly updated: number;
  readonly messages: readonly ShownMessage[];
}

/** What the model is told, and how it chooses tokens; what is absent is as the server was started. */
export interface ChatSettings {
  readonly system: string;
  readonly temperature?: number | undefined;
  readonly top_p?: number | undefined;
  readonly top_k?: number | undefined;
  readonly min_p?: number | undefined;
  readonly repeat_penalty?: number | undefined;
  readonly max_tokens?: number | undefined;
  readonly seed?: number | undefined;
}

const longestTitle = 60;

/** A conversation in which nothing was said yet. */
export function newConversation(): ShownConversation {
  return { id: randomId(), title: "New conversation", updated: Date.now(), messages: [] };
}

/** A message with an id of its own. */
export function newMessage(role: ShownMessage["role"], content: string): ShownMessage {
  return { id: randomId(), role, content };
}

/** The conversation with other messages; its first question is its title. */
export function withMessages(conversation: ShownConversation, messages: readonly ShownMessage[]): ShownConversation {
  const first = messages
    .find(({ role }) => role === "user")
    ?.content.trim()
    .replace(/\s+/g, " ");
  const title = first === undefined || first === "" ? "New conversation" : shortened(first);
  return { ...conversation, title, messages, updated: Date.now() };
}

function shortened(text: string): string {
  return text.length <= longestTitle ? text : `${text.slice(0, longestTitle - 1).trimEnd()}…`;
}

/** `crypto.randomUUID` is there on secure origins only, and a server in the house is none. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
