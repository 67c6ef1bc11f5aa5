const sizes = ["B", "KB", "MB", "GB", "TB"] as const;

/** Figures and their units stay on one line. */
const blank = "\u00a0";

/** Bytes as people say them: `1.4 GB`. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < sizes.length - 1; unit++) value /= 1000;
  return `${figure(value)}${blank}${sizes[unit]}`;
}

/** A number with as many digits as are of interest. */
export function figure(value: number): string {
  if (value === 0) return "0";
  if (value < 0.995) return value.toFixed(2);
  return value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

/** Milliseconds as people say them. */
export function durationText(ms: number): string {
  if (ms >= 59_500) return `${figure(ms / 60_000)}${blank}min`;
  return ms >= 999.5 ? `${figure(ms / 1000)}${blank}s` : `${figure(ms)}${blank}ms`;
}

const countWords = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];

/** A count at the beginning of a sentence. */
export function countText(count: number, one: string, many: string): string {
  return `${countWords[count] ?? count} ${count === 1 ? one : many}`;
}

/** The time of day. */
export function timeText(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
