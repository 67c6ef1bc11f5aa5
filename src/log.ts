const levels = ["debug", "info", "warn", "error", "silent"] as const;

/** Severity of a log line; `silent` as a threshold shows none. */
export type LogLevel = (typeof levels)[number];

/** What a line is about, beside its message. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Writes one line to stderr, if its level reaches the threshold in `STELLIUM_LOG` (default `warn`): as text, or where
 * `STELLIUM_LOG_JSON` is set as a JSON object. Both are read each time, and threads and processes started later inherit
 * them.
 */
export function log(level: Exclude<LogLevel, "silent">, message: string, fields: LogFields = {}): void {
  const threshold = levels.indexOf((process.env["STELLIUM_LOG"] as LogLevel) || "warn");
  if (levels.indexOf(level) < threshold) return;
  process.stderr.write(`${logsJson() ? jsonLine(level, message, fields) : textLine(level, message, fields)}\n`);
}

/** Whether logs are to be JSON objects, one a line. */
export function logsJson(): boolean {
  return !["", "0", "false", "no", "off"].includes((process.env["STELLIUM_LOG_JSON"] ?? "").toLowerCase());
}

function jsonLine(level: string, message: string, fields: LogFields): string {
  return JSON.stringify({ time: new Date().toISOString(), level, message, ...fields });
}

function textLine(level: string, message: string, fields: LogFields): string {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return [`${level}: ${message}`, ...known.map(([name, value]) => `${name}=${textOf(value)}`)].join(" ");
}

/** Quoted where it would not be one word. */
function textOf(value: LogFields[string]): string {
  const text = String(value);
  return /^[\w./:-]+$/.test(text) ? text : JSON.stringify(text);
}
