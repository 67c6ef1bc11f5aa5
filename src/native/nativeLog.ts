import { isMainThread } from "node:worker_threads";
import { type LogLevel, log } from "../log.ts";
import koffi, { type LibraryHandle } from "./koffi.ts";

/** ggml's `enum ggml_log_level`: 0 none, 1 debug, 2 info, 3 warn, 4 error, 5 continuation of the line before. */
const levels: Exclude<LogLevel, "silent">[] = ["debug", "debug", "debug", "info", "error", "debug"];

let callbackType: ReturnType<typeof koffi.pointer> | undefined;

/** Callbacks stay registered for the life of the process: native code may call them at any time. */
const callbacks: bigint[] = [];

/** Whoever wants to see native log lines as well, such as an error message in the making. */
const listeners = new Set<(text: string) => void>();

/**
 * Routes a native library's log to ours. Only the main thread does so: the sink is one per process, and calls from
 * other threads are handed to the thread that registered it.
 */
export function logNative(library: LibraryHandle, setter: "ggml_log_set" | "llama_log_set"): void {
  if (!isMainThread) return;
  callbackType ??= koffi.pointer(koffi.proto("void stellium_log_callback(int level, str text, void *user)"));
  const callback = koffi.register(receive, callbackType);
  callbacks.push(callback);
  library.func(`void ${setter}(void *callback, void *user)`)(callback, null);
}

/**
 * Runs `action` and returns its result, collecting the warnings and errors that native code logs meanwhile: they are
 * about to be part of a message, so they are not shown as well.
 */
export function withNativeLog<T>(lines: string[], action: () => T): T {
  const listener = (text: string) => lines.push(text);
  listeners.add(listener);
  try {
    return action();
  } finally {
    listeners.delete(listener);
  }
}

function receive(level: number, text: string): void {
  const line = text.trimEnd();
  if (line === "") return;
  const ours = levels[level] ?? "debug";
  log(listeners.size === 0 ? ours : "debug", line);
  if (ours !== "debug") for (const listener of listeners) listener(line);
}
