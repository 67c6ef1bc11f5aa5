const levels = ["debug", "info", "warn", "error", "silent"] as const;

/** Severity of a log line; `silent` as a threshold shows none. */
export type LogLevel = (typeof levels)[number];

const threshold = levels.indexOf((process.env["STELLIUM_LOG"] as LogLevel) || "warn");

/** Writes one line to stderr, if its level reaches the threshold in `STELLIUM_LOG` (default `warn`). */
export function log(level: Exclude<LogLevel, "silent">, message: string): void {
  if (levels.indexOf(level) >= threshold) process.stderr.write(`${level}: ${message}\n`);
}
