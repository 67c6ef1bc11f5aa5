/** What a span may be, by number. */
export const spanKind = {
  /** One step of a sequence, or of several. */
  step: 0,
  /** Reading rows of the embedding, and computing those of each layer. */
  embedding: 1,
  /** What the step is, and what enters with its tokens, on their way to all ranks. */
  broadcast: 2,
  /** Computing a block. */
  compute: 3,
  /** The engine waiting for sums that the communication thread adds up. */
  sums: 4,
  /** Adding up what all ranks have of a block. */
  reduce: 5,
  /** Sending, until all of it is with the system. */
  send: 6,
  /** Waiting for the first byte of a rank. */
  peer: 7,
  /** Encrypting a frame, or decrypting one. */
  cipher: 8,
  /** Reading what stays in memory of the weights. */
  load: 9,
  /** The engine waiting for a block that is not in memory yet. */
  disk: 10,
  /** Reading a piece of a block from the disk. */
  read: 11,
  /** Comparing a block's checksum. */
  verify: 12,
  /** Waiting until there is room to read a block to. */
  room: 13,
} as const;

/** A number of `spanKind`. */
export type SpanKind = (typeof spanKind)[keyof typeof spanKind];

/** The threads that read where weights are streamed: while one waits or compares a checksum, the disk has work from another. */
export const readerThreads = ["reader 1", "reader 2", "reader 3"] as const;

/** The threads of a rank that record, in the order of their rows. A thread that is to record has its name added here. */
export const tracedThreads = ["engine", "communication", ...readerThreads] as const;

/** A name of `tracedThreads`. */
export type TracedThread = (typeof tracedThreads)[number];

/** The subject of several blocks in one graph; that of one block is its index. */
export const severalBlocks = 2 ** 20;
/** The subject of weights that are in no block. */
export const otherSubject = severalBlocks + 1;

/**
 * Name of a span, such as `attention 3` or `sum ffn 0`.
 *
 * @param blocks - names of the model's blocks
 */
export function spanName(kind: SpanKind, subject: number, blocks: readonly string[]): string {
  return names[kind](subject, (index) => blockName(index, blocks));
}

const names: Record<SpanKind, (subject: number, blockName: (subject: number) => string) => string> = {
  [spanKind.step]: () => "step",
  [spanKind.embedding]: () => "embedding",
  [spanKind.broadcast]: () => "broadcast",
  [spanKind.compute]: (subject, blockName) => blockName(subject),
  [spanKind.sums]: (subject, blockName) => `wait for sum ${blockName(subject)}`,
  [spanKind.reduce]: (subject, blockName) => `sum ${blockName(subject)}`,
  [spanKind.send]: () => "send",
  [spanKind.peer]: (rank) => `wait for rank ${rank}`,
  [spanKind.cipher]: () => "cipher",
  [spanKind.load]: () => "load",
  [spanKind.disk]: (subject, blockName) => `wait for disk ${blockName(subject)}`,
  [spanKind.read]: (subject, blockName) => `read ${blockName(subject)}`,
  [spanKind.verify]: (subject, blockName) => `verify ${blockName(subject)}`,
  [spanKind.room]: (subject, blockName) => `room for ${blockName(subject)}`,
};

/** What the amount of a span counts; undefined where it has none. */
export const amountName: Readonly<Partial<Record<SpanKind, "tokens" | "bytes">>> = {
  [spanKind.step]: "tokens",
  [spanKind.broadcast]: "bytes",
  [spanKind.compute]: "tokens",
  [spanKind.reduce]: "bytes",
  [spanKind.cipher]: "bytes",
  [spanKind.load]: "bytes",
  [spanKind.read]: "bytes",
};

function blockName(subject: number, blocks: readonly string[]): string {
  if (subject === otherSubject) return "other weights";
  return blocks[subject] ?? "blocks";
}
