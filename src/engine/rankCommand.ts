import { StelliumError } from "../errors.ts";
import { type Batch, type BatchPart, countTokens } from "../model/batch.ts";

/** Moves cells of the KV cache, from the first one on, between slots and copies kept beside the cache. */
export type CellMove =
  | { readonly move: "copy"; readonly from: number; readonly to: number; readonly cells: number }
  | { readonly move: "save"; readonly slot: number; readonly key: number; readonly cells: number }
  | { readonly move: "restore"; readonly slot: number; readonly key: number; readonly cells: number }
  | { readonly move: "drop"; readonly key: number }
  /** Drops every copy. */
  | { readonly move: "clear" };

/** What all ranks do next. */
export type RankCommand = { readonly step: Batch } | CellMove;

/** What commands must keep to; the same on all ranks. */
export interface CommandLimits {
  readonly slots: number;
  readonly context: number;
  /** Most tokens of a pass. */
  readonly batch: number;
  /** Most tokens of a step that get logits: there is room for no more. */
  readonly outputs: number;
}

/** Keys of copies are below it. */
export const mostKeys = 2 ** 31;

const kinds = ["step", "copy", "save", "restore", "drop", "clear"] as const;
const partInts = 5;

/** 32-bit integers of a command: all of them have the same length, so that their receiver need not be told it. */
export function commandInts(slots: number): number {
  return 2 + Math.max(1, slots) * partInts;
}

/** Writes a command that keeps to the limits. */
export function encodeCommand(command: RankCommand, target: Int32Array): void {
  target.fill(0);
  if ("step" in command) {
    target[1] = command.step.length;
    command.step.forEach((part, i) => {
      const { slot, tokens, position, outputs, hidden } = part;
      target.set([slot, tokens, position, outputs, hidden ? 1 : 0], 2 + i * partInts);
    });
    return;
  }
  const { move, ...values } = command;
  target[0] = kinds.indexOf(move);
  target.set(Object.values(values), 1);
}

/** Reads a command that came from elsewhere. Throws `PROTOCOL_VIOLATION` where it does not keep to the limits. */
export function decodeCommand(ints: Int32Array, limits: CommandLimits): RankCommand {
  const command = ints[0] === 0 ? { step: decodeStep(ints, limits) } : decodeMove(ints);
  const sound = "step" in command ? stepFits(command.step, limits) : moveFits(command, limits);
  if (!sound) throw violation(`${JSON.stringify(command).slice(0, 200)} does not fit`);
  return command;
}

/** True if a pass keeps to the limits. */
export function stepFits(step: Batch, { slots, context, batch, outputs: most }: CommandLimits): boolean {
  const partFits = ({ slot, tokens, position, outputs }: BatchPart) =>
    within(slot, 0, slots - 1) &&
    within(position, 0, context) &&
    within(tokens, 1, context - position) &&
    within(outputs, 0, tokens);
  return (
    within(step.length, 1, slots) &&
    step.every(partFits) &&
    countTokens(step) <= batch &&
    step.reduce((sum, { outputs, hidden }) => sum + (hidden ? 0 : outputs), 0) <= most &&
    new Set(step.map(({ slot }) => slot)).size === step.length
  );
}

/** True if a move keeps to the limits. */
export function moveFits(command: CellMove, { slots, context }: CommandLimits): boolean {
  const slotFits = (slot: number) => within(slot, 0, slots - 1);
  const keyFits = (key: number) => within(key, 0, mostKeys - 1);
  switch (command.move) {
    case "copy":
      return slotFits(command.from) && slotFits(command.to) && within(command.cells, 1, context);
    case "save":
    case "restore":
      return slotFits(command.slot) && keyFits(command.key) && within(command.cells, 1, context);
    case "drop":
      return keyFits(command.key);
    case "clear":
      return true;
  }
}

function decodeStep(ints: Int32Array, { slots }: CommandLimits): BatchPart[] {
  const count = ints[1]!;
  if (!within(count, 1, slots)) throw violation(`a step of ${count} parts where there are ${slots} slots`);
  return Array.from({ length: count }, (_, i) => {
    const [slot, tokens, position, outputs, hidden] = ints.subarray(2 + i * partInts, 2 + (i + 1) * partInts);
    return { slot: slot!, tokens: tokens!, position: position!, outputs: outputs!, hidden: hidden === 1 };
  });
}

function decodeMove(ints: Int32Array): CellMove {
  const [kind, first, second, cells] = ints as unknown as [number, number, number, number];
  const move = kinds[kind];
  if (move === "copy") return { move, from: first, to: second, cells };
  if (move === "save" || move === "restore") return { move, slot: first, key: second, cells };
  if (move === "drop") return { move, key: first };
  if (move === "clear") return { move };
  throw violation(`there is no command ${kind}`);
}

function within(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function violation(reason: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "rank 0", reason });
}
