import type { StelliumError } from "../errors.ts";

/** Says that slices are not kept for the next start, and why. */
export function uncachedText({ message, hint }: StelliumError): string {
  return `${message}; this run keeps its slice in the folder for temporary files and removes it at the end. ${hint}`;
}
