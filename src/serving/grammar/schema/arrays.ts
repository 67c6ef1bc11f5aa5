import { requireArray, type SchemaObject, unsupported, wholeNumber } from "./keywords.ts";
import type { SchemaContext } from "./objects.ts";

/** Arrays whose first elements may have schemas of their own; those are always there, and others follow only with `items`. */
export function arrayExpression(context: SchemaContext, schema: SchemaObject, path: string): string {
  const min = wholeNumber(schema, "minItems", path) ?? 0;
  const max = wholeNumber(schema, "maxItems", path) ?? Infinity;
  if (max < min) throw unsupported(path, `minItems ${min} is above maxItems ${max}`);
  const first = firstItems(context, schema, path, max);
  const items = schema.items ?? first.length === 0;
  if (items === false && min > first.length)
    throw unsupported(path, `${min} items, and only ${first.length} are described`);
  const more = items === false ? undefined : context.visit(items, `${path}/items`);
  const [least, most] = [Math.max(0, min - first.length), max - first.length];
  return context.writer.add("array", `"[" ws ${elements(first, more, least, most)} "]"`);
}

function firstItems(context: SchemaContext, schema: SchemaObject, path: string, max: number): string[] {
  if (schema.prefixItems === undefined) return [];
  const schemas = requireArray(schema.prefixItems, `${path}/prefixItems`);
  if (schemas.length > max) throw unsupported(path, `maxItems ${max} is below the number of prefixItems`);
  return schemas.map((item, i) => context.visit(item, `${path}/prefixItems/${i}`));
}

function elements(first: readonly string[], more: string | undefined, least: number, most: number): string {
  const others = (element: string, min: number) => `("," ws ${element}){${min},${most === Infinity ? "" : most - 1}}`;
  if (first.length > 0) {
    const rest = more === undefined || most === 0 ? "" : ` ("," ws ${more}){${least},${most === Infinity ? "" : most}}`;
    return `${first.join(' "," ws ')}${rest} ws`;
  }
  if (more === undefined || most === 0) return '""';
  return least === 0 ? `(${more} ${others(more, 0)} ws)?` : `${more} ${others(more, least - 1)} ws`;
}
