import type { CoordinatorMessage, WorkerMessage } from "#stellium/cluster/control/messages";
import { hello, session } from "./pair.ts";

const sha256 = "ef".repeat(32);
const key = `${"A".repeat(43)}=`;
const beat = [
  { type: "ping", sequence: 1 },
  { type: "pong", sequence: 1 },
] as const;

const worker: WorkerMessage[] = [
  hello,
  ...beat,
  { type: "slice-request", blocks: [0, 1, 4095] },
  { type: "slice-progress", bytes: 1, total: 2 },
  { type: "slice-complete" },
  { type: "ready", phase: "listening", dataPort: 40_000 },
  { type: "ready", phase: "linked" },
  { type: "ready", phase: "loaded" },
  { type: "failed", code: "DISK_FULL", message: "no room" },
  { type: "stats", figures: { compute_ms: 1.5 } },
  { type: "profile", times: [1.25, 0, 0.5, 0.125, 2] },
  {
    type: "trace",
    last: true,
    dropped: 0,
    events: [{ name: "block 1", thread: "engine", start: 1, duration: 2, figures: { bytes: 3 } }],
  },
  { type: "clock", sequence: 4, now: 1.5e9 },
  { type: "leave", reason: "done" },
];

const coordinator: CoordinatorMessage[] = [
  { type: "identity", device: "0123456789abcdef".repeat(2), key },
  { type: "welcome", rank: 1, size: 2, session },
  ...beat,
  {
    type: "plan",
    rank: 1,
    size: 2,
    slice: { model: sha256, share: "ab".repeat(8) },
    description: { layers: [1, 2, { name: "attn" }] },
    shares: [3, 1],
    engine: { threads: 4 },
    listen: { host: "::1", port: 0 },
  },
  { type: "slice-block", index: 3, stream: 9, bytes: 1e6 },
  { type: "slice-checksum", stream: 9, sha256 },
  {
    type: "links",
    rank: 1,
    size: 2,
    peers: [{ rank: 0, host: "192.168.1.2", port: 4000, sendKey: key, receiveKey: key }],
    cipher: "aes-256-gcm",
    wire: "f16",
    collective: "auto",
  },
  { type: "stats-request" },
  { type: "profile-request" },
  { type: "trace-request" },
  { type: "clock-request", sequence: 4 },
  { type: "shutdown", reason: "restart" },
  { type: "shutdown", reason: "removed", removed: true },
];

/** At least one of every message. */
export const samples = { worker, coordinator };
