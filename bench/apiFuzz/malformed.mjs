import fc from "fast-check";
import { unheldForm } from "./unheld.mjs";

/**
 * Requests that no client should send: bodies that are no JSON, JSON of the wrong shape, shapes with wrong values, paths,
 * methods and headers that mean nothing, forms that answers cannot have.
 */

/**
 * @typedef {object} MalformedRequest
 * @property {string} method
 * @property {string} path
 * @property {Record<string, string>} headers
 * @property {string | undefined} body
 */

const posts = [
  "chat/completions",
  "completions",
  "responses",
  "embeddings",
  "tokenize",
  "detokenize",
  "apply-template",
];
const fields = [
  ...["messages", "prompt", "input", "content", "tokens", "model", "stream", "n", "max_tokens", "temperature", "top_p"],
  ...[
    "top_k",
    "min_p",
    "seed",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "stream_options",
  ],
  ...["response_format", "chat_template_kwargs", "reasoning_effort", "instructions", "text", "reasoning", "echo"],
];

const anyText = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  fc.constantFrom("\ud800", "\uf8f00\uf8f1", "<|eos|>", "__proto__"),
);
const anyNumber = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(-1, 0, 1e308, -1e308, 2 ** 53, 0.5));
const anyJson = fc.oneof(fc.jsonValue({ maxDepth: 4 }), anyText, anyNumber);
const deep = fc.integer({ min: 100, max: 5000 }).map((depth) => "[".repeat(depth) + "]".repeat(depth));

const message = fc.record(
  {
    role: fc.oneof(fc.constantFrom("user", "assistant", "tool", "king"), anyJson),
    content: fc.oneof(anyText, fc.array(fc.record({ type: anyText, text: anyJson }), { maxLength: 3 }), anyJson),
    tool_calls: fc.oneof(fc.array(fc.record({ id: anyJson, function: anyJson }), { maxLength: 2 }), anyJson),
  },
  { requiredKeys: [] },
);
const conversation = fc.record(
  { messages: fc.array(message, { maxLength: 3 }), input: fc.array(message, { maxLength: 3 }) },
  { requiredKeys: [] },
);
const wrongFields = fc.dictionary(fc.constantFrom(...fields), anyJson, { maxKeys: 5 });

/** At least one field is of no type that it may have. */
const spoiled = fc
  .tuple(conversation, wrongFields, fc.constantFrom("temperature", "max_tokens", "stop", "seed", "top_p", "stream"))
  .map(([first, second, field]) => ({ ...first, ...second, [field]: { wrong: true } }));

const body = fc.oneof(
  fc.string(),
  fc.string({ unit: "binary" }),
  deep,
  fc.constantFrom("", "null", "[]", "{}", "{", '{"messages":', "\u0000", "[[[]]]", "1e999", '{"__proto__":1}'),
  fc.json().map((text) => text.slice(0, Math.max(1, text.length >> 1))),
  spoiled.map((value) => JSON.stringify(value)),
);

const headers = fc.dictionary(
  fc.constantFrom("content-type", "authorization", "accept", "x-api-key", "origin", "host", "x-forwarded-for"),
  fc.oneof(
    fc.constantFrom("null", "*", "evil.example", "http://evil.example", "Bearer x", "a b", "[::1", "%"),
    fc.string().map((text) => text.replace(/[^\x21-\x7e]/g, "").slice(0, 50)),
  ),
  { maxKeys: 3 },
);

const strangePath = fc.webPath().map((path) => `/v1/${path.replace(/^\/+/, "")}`);

/** A POST that some endpoint takes, with a body that it does not. `tokens` and `content` alone might be right. */
const wrongBody = fc.record({
  method: fc.constant("POST"),
  path: fc.tuple(fc.constantFrom("/", "/v1/"), fc.constantFrom(...posts)).map(([prefix, path]) => prefix + path),
  headers,
  body: /** @type {fc.Arbitrary<string | undefined>} */ (body),
});

const unheld = fc.record({
  method: fc.constant("POST"),
  path: fc.constantFrom("/chat/completions", "/v1/chat/completions"),
  headers: fc.constant(/** @type {Record<string, string>} */ ({})),
  body: unheldForm.map((value) => /** @type {string | undefined} */ (JSON.stringify(value))),
});

const wrongPlace = fc.record({
  method: fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"),
  path: fc.oneof(strangePath, fc.constantFrom("/v1/models/x", "//", "/v1", "/v1/chat", "/%", "/..%2f..")),
  headers,
  body: fc.constant(/** @type {string | undefined} */ (undefined)),
});

/** @type {fc.Arbitrary<MalformedRequest>} */
export const malformedRequest = fc.oneof(
  { weight: 5, arbitrary: wrongBody },
  { weight: 2, arbitrary: unheld },
  { weight: 1, arbitrary: wrongPlace },
);

/** Requests that only look malformed: endpoints for texts have no fields that `spoiled` makes wrong. */
const harmless = /\/(tokenize|detokenize|embeddings)$/;

/**
 * What is wrong with a response to a malformed request; undefined where it is a clear refusal.
 * @param {MalformedRequest} request
 * @param {number} status
 * @param {string} text
 */
export function faultOf({ path, method }, status, text) {
  if (/\bat .+:\d+:\d+|node:internal|\.js:\d+|\/src\/|\/dist\//.test(text))
    return `the response has a stack trace: ${text}`;
  if (harmless.test(path) && status === 200) return undefined;
  if (status < 400 || status > 499) return `the status is ${status}: ${text}`;
  if (method === "HEAD" || status === 431) return undefined;
  return text === "" || text.startsWith('{"error":{"message":') ? undefined : `the response is no error: ${text}`;
}
