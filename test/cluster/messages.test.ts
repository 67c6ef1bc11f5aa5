import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { fittingText } from "#stellium/cluster/control/fields";
import {
  dataFrame,
  type Frame,
  FrameDecoder,
  jsonFrame,
  maxDataBytes,
  Violation,
} from "#stellium/cluster/control/frames";
import {
  coordinatorMessage,
  protocolVersion,
  tableFingerprint,
  versionMessage,
  workerMessage,
} from "#stellium/cluster/control/messages";
import { parseMessage } from "#stellium/cluster/control/sides";
import { samples } from "./samples.ts";

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value));

describe("the table of messages", () => {
  it("has not changed without a new version", () => {
    const schemas = [versionMessage, workerMessage, coordinatorMessage].map((schema) => z.toJSONSchema(schema));
    const fingerprint = createHash("sha256").update(JSON.stringify(schemas)).digest("hex");
    // If this fails, raise protocolVersion (unless nothing was released with it), and set tableFingerprint and this.
    expect([protocolVersion, tableFingerprint]).toEqual([2, fingerprint]);
  });

  it("has a sample of every message, and takes each", () => {
    for (const [side, schema] of [["worker", workerMessage] as const, ["coordinator", coordinatorMessage] as const]) {
      for (const message of samples[side]) expect(parseMessage<unknown>(schema, encoded(message))).toEqual(message);
      const types = (z.toJSONSchema(schema).oneOf ?? []).flatMap((entry) => typesOf(entry as z.core.JSONSchema.Schema));
      expect(new Set(samples[side].map(({ type }) => type))).toEqual(new Set(types));
    }
  });

  it("bounds every string, array, number and record", () => {
    for (const schema of [versionMessage, workerMessage, coordinatorMessage]) {
      expect(unbounded(z.toJSONSchema(schema), "message")).toEqual([]);
    }
  });

  it("refuses unknown types, missing and additional fields, and what the other side says", () => {
    const [hello] = samples.worker;
    const bad = [
      { type: "evil" },
      { ...hello, more: 1 },
      { type: "hello" },
      { type: "ready", phase: "late" },
      null,
      [],
      1,
    ];
    for (const message of bad) expect(() => parseMessage(workerMessage, encoded(message))).toThrow(Violation);
    expect(() => parseMessage(coordinatorMessage, encoded(hello))).toThrow(Violation);
    expect(() => parseMessage(workerMessage, Buffer.from("{"))).toThrow("a message is not JSON");
  });

  it("refuses names that a terminal would obey, and data nested too deeply", () => {
    const named = { ...samples.worker[0], name: "pi\u001b[2J" };
    expect(() => parseMessage(workerMessage, encoded(named))).toThrow(/name: .*cannot be printed/);
    const plan = samples.coordinator.find(({ type }) => type === "plan");
    const deep = ['{"a":'.repeat(50_000), "1", "}".repeat(50_000)].join("");
    const text = JSON.stringify({ ...plan, description: "@" }).replace('"@"', deep);
    expect(() => parseMessage(coordinatorMessage, Buffer.from(text))).toThrow(/description: .*32 deep/);
  });

  it("makes any text fit for a reason", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 600 }), (anything) => {
        const reason = fittingText(anything, 512);
        expect(parseMessage(workerMessage, encoded({ type: "leave", reason }))).toEqual({ type: "leave", reason });
      }),
    );
  });
});

describe("frames", () => {
  const frames = fc.array(
    fc.oneof(
      fc.string({ minLength: 2, maxLength: 50 }).map((text) => jsonFrame(Buffer.from(text))),
      fc
        .tuple(fc.nat(2 ** 32 - 1), fc.maxSafeNat(), fc.uint8Array({ minLength: 1, maxLength: 100 }))
        .map((frame) => dataFrame(...frame)),
    ),
    { maxLength: 8 },
  );

  it("are the same however the stream was cut", () => {
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (list, cuts) => {
        const bytes = Buffer.concat(list.flat());
        expect(decode(bytes, cuts)).toEqual(decode(bytes, [bytes.length + 1]));
        expect(Buffer.concat(decode(bytes, cuts).flatMap(encode))).toEqual(bytes);
      }),
    );
  });

  it.each([
    ["an unknown kind", [2, 0, 0, 0, 9]],
    ["JSON of 2 MiB", [0, 0, 32, 0, 0]],
    ["data of 4 GiB", [255, 255, 255, 255, 1]],
    ["data without bytes", [12, 0, 0, 0, 1]],
    ["an empty message", [0, 0, 0, 0, 0]],
    ["a long credit", [5, 0, 0, 0, 2]],
  ])("refuse %s by the header alone", (_, header) => {
    expect(() => [...new FrameDecoder().push(Uint8Array.from(header))]).toThrow(Violation);
  });

  it("carry up to 4 MiB", () => {
    const [frame] = decode(Buffer.concat(dataFrame(7, 2 ** 52, new Uint8Array(maxDataBytes).fill(3))), [16_384]);
    expect(frame).toMatchObject({ type: "data", stream: 7, offset: 2 ** 52 });
    expect(frame?.type === "data" && frame.bytes.every((byte) => byte === 3)).toBe(true);
  });
});

function decode(bytes: Buffer, cuts: readonly number[]): Frame[] {
  const decoder = new FrameDecoder();
  const found: Frame[] = [];
  for (let at = 0, i = 0; at < bytes.length; at += cuts[i++ % cuts.length]!) {
    found.push(...decoder.push(bytes.subarray(at, at + cuts[i % cuts.length]!)));
  }
  return found;
}

function encode(frame: Frame): Uint8Array[] {
  if (frame.type === "json") return jsonFrame(frame.payload);
  return frame.type === "data" ? dataFrame(frame.stream, frame.offset, frame.bytes) : [];
}

function typesOf({ oneOf, properties }: z.core.JSONSchema.Schema): unknown[] {
  if (oneOf) return oneOf.flatMap((entry) => typesOf(entry as z.core.JSONSchema.Schema));
  const type = properties?.["type"];
  return typeof type === "object" ? [type.const] : [];
}

/** Where a JSON Schema lets something of any size through. */
function unbounded(schema: z.core.JSONSchema._JSONSchema, path: string): string[] {
  if (typeof schema === "boolean") return [];
  const { type, properties = {}, items, oneOf = [], anyOf = [], additionalProperties } = schema;
  const fixed = "const" in schema || "enum" in schema;
  const patterned = /\{[\d,]*\d\}=?\$$/.test(schema.pattern ?? "");
  const bad =
    (type === "string" && !fixed && schema.maxLength === undefined && !patterned) ||
    (type === "array" && schema.maxItems === undefined) ||
    ((type === "number" || type === "integer") && (schema.maximum === undefined || schema.minimum === undefined)) ||
    (type === "object" && additionalProperties === undefined && path !== "message");
  return [
    ...(bad ? [path] : []),
    ...Object.entries(properties).flatMap(([name, property]) => unbounded(property, `${path}.${name}`)),
    ...[...oneOf, ...anyOf].flatMap((entry) => unbounded(entry, path)),
    ...(items && !Array.isArray(items) ? unbounded(items, `${path}[]`) : []),
    ...(typeof additionalProperties === "object" ? unbounded(additionalProperties, `${path}{}`) : []),
  ];
}
