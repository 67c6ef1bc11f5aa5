import { z } from "zod";

/** How far a device has come: nobody has the place yet; its slice comes; it is in memory; sums can travel; it is gone. */
export const deviceStates = ["awaited", "receiving", "loading", "ready", "lost"] as const;

/** What a device, or the group, spends most of a step on; `waiting` is for a slower device. */
export const limitNames = ["compute", "disk", "network", "waiting", "idle"] as const;

const bytes = z.number();
const ms = z.number();

/** Milliseconds of an average step since the last report. They exclude each other, and `network` includes ciphers. */
const stepTimes = z.object({
  computeMs: ms,
  /** Waiting for weights that are not in memory. */
  diskMs: ms,
  /** Sending, receiving and adding up, and what all devices wait for a message at least. */
  networkMs: ms,
  /** Of `networkMs`. */
  cipherMs: ms,
  /** For devices that were not done, beyond what the network takes. */
  waitMs: ms,
});

const deviceStatus = z.object({
  rank: z.int(),
  /** null while nobody has the place. */
  name: z.string().nullable(),
  host: z.string().nullable(),
  state: z.enum(deviceStates),
  threads: z.int().nullable(),
  share: z.object({
    heads: z.int(),
    kvHeads: z.int(),
    ffnColumns: z.int(),
    weightBytes: bytes,
    /** Of the weights of all devices together. */
    weightFraction: z.number(),
  }),
  /** What is not known is absent. */
  memory: z.object({
    /** What the process may take in all. */
    capBytes: bytes.optional(),
    /** What it takes. */
    rssBytes: bytes.optional(),
    peakRssBytes: bytes.optional(),
    /** Weights that stay in memory, and the room that others pass through. */
    pinnedBytes: bytes.optional(),
    windowBytes: bytes.optional(),
    kvBytes: bytes.optional(),
  }),
  /** Present if not all experts fit in memory; null until measured. */
  experts: z
    .object({
      /** Experts of the device, and how many fit in memory at once. */
      count: z.int(),
      slots: z.int(),
      /** Fraction of recent uses that found their expert in memory. */
      hitRate: z.number().nullable(),
      /** Recent expert reads per generated token. */
      bytesPerToken: bytes.nullable(),
    })
    .optional(),
  /** Of its slice, while it is sent. */
  transfer: z.object({ bytes, total: bytes }).optional(),
  limit: z.enum(limitNames),
  step: stepTimes.optional(),
  bytesSentPerSecond: z.number(),
  bytesReceivedPerSecond: z.number(),
  diskBytesPerSecond: z.number(),
  /** One of the last steps, in milliseconds, `blocks` blocks a row: compute, disk, wire, cipher, wait. */
  timeline: z.object({ blocks: z.int(), rows: z.array(z.array(ms)) }).optional(),
});

const networkStatus = z.object({
  wire: z.string(),
  cipher: z.string(),
  /** What was asked for, and what is used for the sums of one token. */
  asked: z.string(),
  collective: z.string(),
  /** Where it was chosen: why, and how long each was predicted to take, fastest first. */
  why: z.string().optional(),
  payloadBytes: bytes.optional(),
  predictions: z.array(z.object({ name: z.string(), ms })).optional(),
  /** One-way latency between ranks, and the rate of a pair that has the network to itself. Rows send. */
  latencyMs: z.array(z.array(ms)).optional(),
  megabitsPerSecond: z.array(z.array(z.number())).optional(),
});

/** Something that happened to the cluster. */
const clusterEvent = z.object({
  id: z.int(),
  /** Milliseconds since 1970. */
  at: z.number(),
  kind: z.enum(["joined", "ready", "lost", "mended"]),
  device: z.string().nullable(),
  text: z.string(),
});

/** What `GET /cluster` answers with, and what each event of `GET /cluster/events` holds. */
export const clusterStatus = z.object({
  /** Of Stellium. */
  version: z.string(),
  /** Milliseconds since 1970. */
  at: z.number(),
  /** Reading the model; waiting for devices, and for what they load; computing; a device was lost. */
  state: z.enum(["starting", "waiting", "ready", "mending"]),
  model: z
    .object({
      name: z.string(),
      architecture: z.string(),
      layers: z.int(),
      heads: z.int(),
      kvHeads: z.int(),
      ffnColumns: z.int(),
      weightBytes: bytes,
      context: z.int().nullable(),
    })
    .nullable(),
  devices: z.array(deviceStatus),
  speed: z.object({
    /** Over the last seconds. */
    tokensPerSecond: z.number(),
    promptTokensPerSecond: z.number(),
    stepMs: ms.nullable(),
  }),
  slots: z.array(
    z.object({
      id: z.int(),
      state: z.enum(["idle", "prefill", "decode"]),
      promptTokens: z.int(),
      /** Of the prompt, those that the KV cache held already. */
      cachedTokens: z.int(),
      generatedTokens: z.int(),
      context: z.int(),
    }),
  ),
  /** Requests that wait for a slot. */
  queued: z.int(),
  /** The device that the others wait for, and what it spends its time on; null while nothing is computed. */
  bottleneck: z.object({ rank: z.int(), limit: z.enum(limitNames) }).nullable(),
  network: networkStatus.nullable(),
  /** How devices join; null where one device does it alone. */
  join: z
    .object({
      joined: z.int(),
      wanted: z.int(),
      /** Whether the devices are processes of this machine. */
      local: z.boolean(),
      /** Where they join. */
      address: z.string(),
      /** The whole line, with the token; null for a client without the API key. */
      command: z.string().nullable(),
    })
    .nullable(),
  /** The last ones, oldest first. */
  events: z.array(clusterEvent),
});

/** See `clusterStatus`. */
export type ClusterStatus = z.infer<typeof clusterStatus>;
/** One device, as `ClusterStatus` tells of it. */
export type DeviceStatus = z.infer<typeof deviceStatus>;
/** See `deviceStatus`. */
export type StepStatus = z.infer<typeof stepTimes>;
/** See `networkStatus`. */
export type NetworkStatus = z.infer<typeof networkStatus>;
/** See `clusterEvent`. */
export type ClusterEvent = z.infer<typeof clusterEvent>;
/** One of `deviceStates`. */
export type DeviceState = (typeof deviceStates)[number];
/** One of `limitNames`. */
export type LimitName = (typeof limitNames)[number];
