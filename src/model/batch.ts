import { cellStep, paddedCells } from "./cells.ts";

/** Tokens of one sequence that go through the blocks in one forward pass. */
export interface BatchPart {
  /** Whose cells of the KV cache they use. No two parts of a pass have the same. */
  readonly slot: number;
  readonly tokens: number;
  /** Cell and position of the first token; the others follow. */
  readonly position: number;
  /** Tokens at its end that have results. */
  readonly outputs: number;
  /** True if results are hidden states after the last norm, false if they are logits. */
  readonly hidden: boolean;
}

/** What passes through the blocks together: parts of one or several sequences. Results are in order of the parts. */
export type Batch = readonly BatchPart[];

/** All tokens of a pass. */
export function countTokens(step: Batch): number {
  return step.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** Tokens of one slot that follow on each other, as columns of the hidden states do. */
export interface Run {
  readonly slot: number;
  readonly tokens: number;
  readonly position: number;
  readonly outputs: number;
  readonly hidden: boolean;
  /** Index of the first token in the pass, whose order is that of the parts. */
  readonly source: number;
}

/** Columns whose attention is one operation: a run, or runs of one token in slots that follow on each other. */
export interface ColumnSpan {
  /** The first slot. */
  readonly slot: number;
  readonly slots: number;
  /** Tokens of each slot. */
  readonly tokens: number;
  /** Tokens of each slot that have results. */
  readonly outputs: number;
  /** Cells of each slot that attention looks at. */
  readonly cells: number;
  /** Position of the first token, of the slot where that is least. */
  readonly position: number;
}

/** The cells of a span that attention with a window of tokens (0: none) looks at, in whole steps of cells. */
export function seenCells(
  { cells, position }: ColumnSpan,
  window: number,
): { readonly skipped: number; readonly cells: number } {
  const first = window === 0 ? 0 : Math.max(0, position - window + 1);
  const skipped = first - (first % cellStep);
  return { skipped, cells: cells - skipped };
}

/** How large a pass is and how its columns lie: what a graph is built for. */
export interface BatchShape {
  /** Tokens that pass through the blocks. */
  readonly tokens: number;
  /** Tokens that have results: the last columns. */
  readonly outputs: number;
  /** Tokens among those, from the first one, that give hidden states; the others give logits. */
  readonly hidden: number;
  readonly spans: readonly ColumnSpan[];
}

/** A pass's columns, from left to right. */
export interface BatchLayout {
  readonly runs: readonly Run[];
  readonly shape: BatchShape;
}

/**
 * Lays a pass out: tokens without results first, then those that give hidden states, then those that give logits, each
 * by slot. So what has results is the last columns, and sequences that are decoded side by side share one attention.
 * One part alone stays one run.
 */
export function layOut(step: Batch): BatchLayout {
  const runs = runsOf(step);
  const sum = (value: (run: Run) => number) => runs.reduce((total, run) => total + value(run), 0);
  const shape = {
    tokens: sum(({ tokens }) => tokens),
    outputs: sum(({ outputs }) => outputs),
    hidden: sum(({ outputs, hidden }) => (hidden ? outputs : 0)),
    spans: spansOf(runs),
  };
  return { runs, shape };
}

/** Where the results of a part are. */
export interface PartResults {
  readonly outputs: number;
  readonly hidden: boolean;
  /** Of its hidden states or logits, the first one. */
  readonly column: number;
}

/** Where the results of each part that has any are, in order of the parts. */
export function resultsOf(step: Batch, { runs }: BatchLayout): PartResults[] {
  const columns = new Map<number, number>();
  let [hiddenColumns, logitColumns] = [0, 0];
  for (const { slot, outputs, hidden } of runs) {
    if (outputs > 0) columns.set(slot, hidden ? hiddenColumns : logitColumns);
    if (hidden) hiddenColumns += outputs;
    else logitColumns += outputs;
  }
  const asking = step.filter(({ outputs }) => outputs > 0);
  return asking.map(({ slot, outputs, hidden }) => ({ outputs, hidden, column: columns.get(slot)! }));
}

/**
 * Tells shapes apart that need other graphs.
 *
 * @param windows - of all attention blocks
 */
export function shapeKey({ hidden, spans }: BatchShape, windows: readonly number[] = []): string {
  const key = (span: ColumnSpan) => {
    const { slot, slots, tokens, outputs, cells } = span;
    return [slot, slots, tokens, outputs, cells, ...windows.map((window) => seenCells(span, window).skipped)].join();
  };
  return `${hidden};${spans.map(key).join(";")}`;
}

/** Part of a pass, and the index of its first token in that. */
export interface BatchPiece {
  readonly step: Batch;
  readonly first: number;
}

/** Divides a pass into pieces of `most` tokens, but for the last. Parts keep their order; one may go on in the next piece. */
export function divideStep(step: Batch, most: number): BatchPiece[] {
  const pieces: { step: BatchPart[]; first: number }[] = [];
  let taken = 0;
  for (const part of step) {
    for (let done = 0; done < part.tokens; ) {
      if (taken % most === 0) pieces.push({ step: [], first: taken });
      const tokens = Math.min(part.tokens - done, most - (taken % most));
      pieces.at(-1)!.step.push(cut(part, done, tokens));
      done += tokens;
      taken += tokens;
    }
  }
  return pieces;
}

/** `tokens` of a part behind the first `done`. Only the last tokens of a part have results. */
function cut(part: BatchPart, done: number, tokens: number): BatchPart {
  const without = part.tokens - part.outputs;
  const outputs = Math.min(tokens, Math.max(0, done + tokens - without));
  return { ...part, tokens, position: part.position + done, outputs };
}

function runsOf(step: Batch): Run[] {
  const runs: Run[] = [];
  let source = 0;
  for (const part of step) {
    const body = step.length === 1 ? part.tokens : part.tokens - part.outputs;
    for (const run of body === part.tokens ? [part] : [cut(part, 0, body), cut(part, body, part.outputs)]) {
      if (run.tokens > 0) runs.push({ ...run, source });
      source += run.tokens;
    }
  }
  return runs.sort((a, b) => order(a) - order(b) || a.slot - b.slot);
}

function order({ outputs, hidden }: Run): number {
  if (outputs === 0) return 0;
  return hidden ? 1 : 2;
}

function spansOf(runs: readonly Run[]): ColumnSpan[] {
  const spans: ColumnSpan[] = [];
  for (const { slot, tokens, outputs, position } of runs) {
    const cells = paddedCells(position + tokens);
    const last = spans.at(-1);
    if (last !== undefined && tokens === 1 && outputs === 1 && decodesBefore(last, slot)) {
      spans[spans.length - 1] = {
        ...last,
        slots: last.slots + 1,
        cells: Math.max(last.cells, cells),
        position: Math.min(last.position, position),
      };
    } else {
      spans.push({ slot, slots: 1, tokens, outputs, cells, position });
    }
  }
  return spans;
}

function decodesBefore(span: ColumnSpan, slot: number): boolean {
  return span.tokens === 1 && span.outputs === 1 && span.slot + span.slots === slot;
}
