import { StelliumError } from "../../errors.ts";
import { operation, type Program } from "./instructions.ts";

/** Throws `GRAMMAR_INVALID` for a rule that never ends, and for one that calls itself before anything else. */
export function requireFinite(program: Program, names: readonly string[]): void {
  const rules = ruleOfInstructions(program);
  const { ended } = explore(program, rules, true);
  const endless = ended.indexOf(false);
  if (endless >= 0) throw invalid(`the rule ${names[endless]} has no end: it always needs itself once more`);
  const { seen } = explore(program, rules, false);
  const recursive = findCycle(leftCalls(program, rules, seen));
  if (recursive === undefined) return;
  throw invalid(`the rule ${names[recursive]} may begin with itself (left recursion)`);
}

/** The number of the rule that each instruction is part of. */
function ruleOfInstructions({ operations, entries }: Program): Int32Array {
  const rules = new Int32Array(operations.length);
  for (const [rule, entry] of entries.entries()) rules.fill(rule, entry);
  return rules;
}

/**
 * Which rules can reach their end, and which instructions can be reached from the beginning of their rule: by any text,
 * or by none if `bytes` is false. Every instruction is visited once.
 */
function explore(program: Program, rules: Int32Array, bytes: boolean) {
  const { operations, first, second, entries } = program;
  const seen = new Uint8Array(operations.length);
  const ended = Array.from(entries, () => false);
  const waiting: number[][] = Array.from(entries, () => []);
  const open = [...entries];
  const follow = (at: number): number[] => {
    switch (operations[at]) {
      case operation.byte:
        return bytes ? [at + 1] : [];
      case operation.split:
        return [first[at]!, second[at]!];
      case operation.jump:
        return [first[at]!];
      case operation.call:
        if (ended[first[at]!]) return [at + 1];
        waiting[first[at]!]!.push(at + 1);
        return [];
      case operation.return:
        ended[rules[at]!] = true;
        return waiting[rules[at]!]!.splice(0);
      default:
        return [];
    }
  };
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (seen[at]) continue;
    seen[at] = 1;
    for (const next of follow(at)) open.push(next);
  }
  return { seen, ended };
}

/** Of each rule, those that it may call before any text. */
function leftCalls({ operations, first, entries }: Program, rules: Int32Array, seen: Uint8Array): Set<number>[] {
  const calls = Array.from(entries, () => new Set<number>());
  operations.forEach((code, at) => {
    if (code === operation.call && seen[at]) calls[rules[at]!]!.add(first[at]!);
  });
  return calls;
}

/** A node of a cycle: what is left when nodes that nothing leads to are taken away, one after the other. */
function findCycle(edges: readonly ReadonlySet<number>[]): number | undefined {
  const incoming = new Int32Array(edges.length);
  for (const targets of edges) for (const target of targets) incoming[target]!++;
  const free = [...edges.keys()].filter((node) => incoming[node] === 0);
  let left = edges.length;
  for (let node = free.pop(); node !== undefined; node = free.pop()) {
    left--;
    for (const target of edges[node]!) if (--incoming[target]! === 0) free.push(target);
  }
  return left === 0 ? undefined : incoming.findIndex((count) => count > 0);
}

function invalid(reason: string): StelliumError {
  return new StelliumError("GRAMMAR_INVALID", { reason });
}
