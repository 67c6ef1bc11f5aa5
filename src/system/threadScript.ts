/** A thread of this program, by the file it begins in: `engine` is `engineThread.ts`. */
export type ThreadName = "communication" | "engine" | "loader" | "memory" | "poolReader" | "reader" | "sandbox";

/**
 * The script of a thread, for a `Worker`. The build joins it and all that it imports into one file: reading a hundred of
 * them took half of the time that an engine needs to start.
 */
export function threadScript(name: ThreadName): URL {
  return new URL(import.meta.resolve(`#stellium/threads/${name}`));
}
