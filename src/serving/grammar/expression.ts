import type { CodePointRange } from "./codePoints.ts";

/** A grammar's rules by name, as they are written. */
export type Rules = ReadonlyMap<string, Expression>;

/** What a rule is made of. */
export type Expression =
  | { readonly kind: "text"; readonly text: string }
  /** One character of some. */
  | { readonly kind: "oneOf"; readonly ranges: readonly CodePointRange[] }
  | { readonly kind: "rule"; readonly name: string }
  | { readonly kind: "sequence"; readonly parts: readonly Expression[] }
  | { readonly kind: "choice"; readonly parts: readonly Expression[] }
  /** `max` may be Infinity. */
  | { readonly kind: "repeat"; readonly part: Expression; readonly min: number; readonly max: number };
