import { z } from "zod";
import * as field from "./fields.ts";

/**
 * Version of the control protocol. It has to grow with every change of the tables below; a test compares them with
 * `tableFingerprint`.
 */
export const protocolVersion = 2;
/** SHA-256 of the tables' JSON Schemas. */
export const tableFingerprint = "c07e2704c2752d07fa3d2495c39daab3ee2c15a91f1fcf4a4cccb8266029d3de";

/**
 * The first message of both sides. It is read before anything else is, and its form is the same in all versions: what a
 * later version adds is ignored.
 */
export const versionMessage = z.object({
  type: z.literal("version"),
  protocol: field.whole(1e6),
  /** Version of Stellium, for people. */
  stellium: field.textField(64),
});

/** Slices that a worker may tell of. */
export const mostSliceNames = 1024;

/** What a slice is of: a model and a share of it. */
const sliceKey = z.strictObject({ model: field.sha256, share: z.string().regex(/^[0-9a-f]{16,64}$/) });

const heartbeat = [
  z.strictObject({ type: z.literal("ping"), sequence: field.amount }),
  z.strictObject({ type: z.literal("pong"), sequence: field.amount }),
] as const;

/** How far a worker has come: it can be linked to, it is linked, it has loaded its slice. */
const ready = z.discriminatedUnion("phase", [
  z.strictObject({ type: z.literal("ready"), phase: z.literal("listening"), dataPort: field.port }),
  z.strictObject({ type: z.literal("ready"), phase: z.literal("linked") }),
  z.strictObject({ type: z.literal("ready"), phase: z.literal("loaded") }),
]);

/** What a worker says. Introduces itself by `hello`; then answers each plan. */
export const workerMessage = z.discriminatedUnion("type", [
  ...heartbeat,
  z.strictObject({
    type: z.literal("hello"),
    name: field.textField(64, 1),
    /** The device's own name of itself in its network. */
    host: field.textField(253),
    threads: z.int().min(1).max(4096),
    /** Bytes that this process may use; null without a cap. */
    memoryCap: field.amount.nullable(),
    /** What the CPU can do, as ggml names it, and the layouts that follow from it. */
    features: z.array(field.textField(64, 1)).max(128),
    /** The build of ggml's CPU kernels that computes; null if there is only one. */
    cpuVariant: field.textField(64, 1).nullable(),
    ggml: field.textField(64),
    /** Slices on its disk, by their names. */
    cache: z.array(field.sliceNameField).max(mostSliceNames),
    /** Whether it can keep a key of its own on its disk. */
    keepsKey: z.boolean(),
  }),
  z.strictObject({ type: z.literal("slice-request"), blocks: field.blocks }),
  z.strictObject({ type: z.literal("slice-progress"), bytes: field.amount, total: field.amount }),
  z.strictObject({ type: z.literal("slice-complete") }),
  ready,
  z.strictObject({ type: z.literal("failed"), code: field.textField(64, 1), message: field.textField(2048) }),
  z.strictObject({ type: z.literal("stats"), figures: field.figures }),
  /** What its last step was made of, block after block: milliseconds by `profiledParts`. */
  z.strictObject({ type: z.literal("profile"), times: z.array(field.measure).max(65_536) }),
  z.strictObject({
    type: z.literal("trace"),
    /** Whether this was the last part. */
    last: z.boolean(),
    /** Older events that there was no room for. */
    dropped: field.amount,
    events: z
      .array(
        z.strictObject({
          name: field.textField(64),
          thread: field.textField(64),
          /** Microseconds, by this device's clock. */
          start: field.measure,
          duration: field.measure,
          figures: field.figures.optional(),
        }),
      )
      .max(4096),
  }),
  z.strictObject({
    type: z.literal("clock"),
    sequence: field.amount,
    /** Microseconds, by the clock that its trace is recorded with. */
    now: field.measure,
  }),
  z.strictObject({ type: z.literal("leave"), reason: field.reason }),
]);

/** What the coordinator says. A plan takes the place of the one before. */
export const coordinatorMessage = z.discriminatedUnion("type", [
  ...heartbeat,
  /** For a device that was admitted by the token: what it proves from its next connection on. Comes before `welcome`. */
  z.strictObject({ type: z.literal("identity"), device: field.deviceId, key: field.key }),
  z.strictObject({
    type: z.literal("welcome"),
    rank: field.rank,
    size: field.devices,
    /** Identifies this run of the coordinator. */
    session: z.string().regex(/^[0-9a-f]{16,64}$/),
  }),
  z.strictObject({
    type: z.literal("plan"),
    rank: field.rank,
    size: field.devices,
    slice: sliceKey,
    /** The model as this rank has it; its receiver checks the structure. */
    description: field.plainData,
    shares: field.plainData,
    engine: field.plainData,
    /** Where to listen for links; port 0 is any free one. */
    listen: z.strictObject({ host: field.host, port: field.whole(65_535) }),
  }),
  z.strictObject({
    type: z.literal("slice-block"),
    index: field.block,
    /** Stream whose data frames bring the block. */
    stream: field.stream,
    bytes: field.amount,
  }),
  /** Follows on a block's bytes. */
  z.strictObject({ type: z.literal("slice-checksum"), stream: field.stream, sha256: field.sha256 }),
  z.strictObject({
    type: z.literal("links"),
    rank: field.rank,
    size: field.devices,
    /** All other ranks. */
    peers: z
      .array(
        z.strictObject({
          rank: field.rank,
          host: field.host,
          port: field.port,
          /** One key per direction: this rank's `sendKey` is the peer's `receiveKey`. */
          sendKey: field.key,
          receiveKey: field.key,
        }),
      )
      .max(field.mostDevices),
    cipher: z.enum(["none", "aes-256-gcm", "chacha20-poly1305"]),
    wire: z.enum(["f32", "f16", "q8_0"]),
    collective: z.enum(["auto", "star", "exchange", "mesh", "ring", "tree"]),
  }),
  z.strictObject({ type: z.literal("stats-request") }),
  z.strictObject({ type: z.literal("profile-request") }),
  z.strictObject({ type: z.literal("trace-request") }),
  z.strictObject({ type: z.literal("clock-request"), sequence: field.amount }),
  /** `removed`: this device's key is no longer valid. */
  z.strictObject({ type: z.literal("shutdown"), reason: field.reason, removed: z.boolean().optional() }),
]);

export type WorkerMessage = z.infer<typeof workerMessage>;
export type CoordinatorMessage = z.infer<typeof coordinatorMessage>;
/** What a worker says of itself when it joins. */
export type WorkerHello = Extract<WorkerMessage, { type: "hello" }>;
/** The place a worker gets. */
export type Welcome = Extract<CoordinatorMessage, { type: "welcome" }>;
