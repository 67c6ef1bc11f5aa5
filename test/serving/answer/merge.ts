import type { AnswerDelta } from "#stellium/serving/answer/parser";

/** Pieces that belong together as one. */
export function merge(deltas: readonly AnswerDelta[]): AnswerDelta[] {
  const merged: AnswerDelta[] = [];
  for (const delta of deltas) {
    const last = merged.at(-1);
    if (last?.kind === "toolCall" && delta.kind === "toolCall" && last.index === delta.index) {
      merged[merged.length - 1] = { ...last, arguments: last.arguments + delta.arguments };
    } else if (last && last.kind !== "toolCall" && delta.kind !== "toolCall" && last.kind === delta.kind) {
      merged[merged.length - 1] = { kind: last.kind, text: last.text + delta.text };
    } else merged.push(delta);
  }
  return merged;
}
