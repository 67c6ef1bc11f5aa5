import { creditFrame, dataFrame } from "#stellium/cluster/control/frames";
import { framed } from "./messages.mjs";

/** @typedef {import("./random.mjs").Random} Random */

const small = [0, 1, 2, 3, 7, 16, 63, 64, 255, 2047];
const numbers = [0, 1, -1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 53 - 1, -(2 ** 53), 0.5, 1e18, -1e18, 1e308];
const texts = ["", "x", "\0", "../../../etc/passwd", "constructor", "__proto__", "x".repeat(5000), "ab".repeat(32)];

/**
 * A message with one to three of its parts changed: into something of the same kind, so that most still have the form
 * that they should.
 * @param {unknown} message @param {Random} random
 * @returns {unknown}
 */
export function mutated(message, random) {
  let changed = message;
  for (let i = random.of([1, 1, 1, 2, 3]); i > 0; i--) changed = mutatedOnce(changed, random, 0);
  return changed;
}

/** Tries to find a change that a schema lets pass: it gets further. */
const tries = 8;

/**
 * Anything that a peer with the token can send: valid phrases, phrases that are changed but mostly still fit the schema,
 * data for streams that do not exist, and credit for data that was never sent.
 * @param {readonly unknown[]} phrases @param {import("zod").ZodType} schema @param {Random} random
 */
export function anyFrame(phrases, schema, random) {
  const kind = random.below(100);
  if (kind < 30) return framed(random.of(phrases));
  if (kind < 90)
    return framed(passing(() => mutated(random.of(phrases), random), random.below(6) > 0 ? schema : undefined));
  if (kind < 97) {
    const bytes = random.of([random.bytes(1 + random.below(64)), new Uint8Array(4 * 2 ** 20 - 2048)]);
    return Buffer.concat(dataFrame(random.below(2 ** 32), random.below(2 ** 50), bytes));
  }
  return Buffer.concat(creditFrame(random.below(2 ** 20)));
}

/** @param {() => unknown} draw @param {import("zod").ZodType | undefined} schema */
function passing(draw, schema) {
  let drawn = draw();
  for (let i = 0; i < tries && schema !== undefined && !schema.safeParse(drawn).success; i++) drawn = draw();
  return drawn;
}

/** @param {unknown} value @param {Random} random @param {number} depth @returns {unknown} */
function mutatedOnce(value, random, depth) {
  if (typeof value === "number")
    return random.of([random.of(small), random.of(numbers), value + 1, value - 1, value * 2]);
  if (typeof value === "string") return random.of([...texts, value + value, value.slice(1)]);
  if (typeof value !== "object" || value === null) return random.of([true, false, null, 0]);
  const inside = random.below(8) > 0;
  if (Array.isArray(value)) return inside ? withElement(value, random, depth) : rearranged(value, random);
  return inside ? withField(value, random, depth) : withOtherFields(value, random);
}

/** @param {readonly unknown[]} array @param {Random} random @param {number} depth */
function withElement(array, random, depth) {
  if (array.length === 0) return [0];
  const at = random.below(array.length);
  return array.map((item, i) => (i === at ? mutatedOnce(item, random, depth + 1) : item));
}

/** @param {readonly unknown[]} array @param {Random} random */
function rearranged(array, random) {
  const at = random.below(Math.max(1, array.length));
  const ways = [
    () => [],
    () => [...array, ...array],
    () => [...array].reverse(),
    () => [...array.slice(0, at), ...array.slice(at + 1)],
    () => [...array, ...Array(1000).fill(array[at] ?? 0)],
  ];
  return random.of(ways)();
}

/** A field's value; never the type, which makes the message another one. @param {object} object @param {Random} random @param {number} depth */
function withField(object, random, depth) {
  const entries = Object.entries(object);
  const free = entries.filter(([key]) => depth > 0 || key !== "type");
  if (free.length === 0) return withOtherFields(object, random);
  const [chosen] = random.of(free);
  const next = entries.map(([key, item]) => [key, key === chosen ? mutatedOnce(item, random, depth + 1) : item]);
  return Object.fromEntries(next);
}

/** @param {object} object @param {Random} random */
function withOtherFields(object, random) {
  const entries = Object.entries(object);
  const at = random.below(Math.max(1, entries.length));
  const ways = [
    () => entries.filter((_, i) => i !== at),
    () => [...entries, ["added", 1]],
    // Two fields exchange their values.
    () => entries.map(([key], i) => [key, entries[(i + 1) % entries.length]?.[1]]),
  ];
  return Object.fromEntries(random.of(ways)());
}
