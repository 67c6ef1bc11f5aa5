import { compileSource } from "../grammar/compile.ts";
import { parseTemplate, renderTemplate } from "../jinja/render.ts";

/** What a sandbox does; inputs and results are copied between threads. */
export const jobs = { parseTemplate, renderTemplate, compileSource } as const;

/** The type of `jobs`. */
export type Jobs = typeof jobs;
