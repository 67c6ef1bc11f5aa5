const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = "January February March April May June July August September October November December".split(" ");

type Format = (date: Date) => string | number;

/** Directives of Python's `strftime` in the C locale, which is what chat templates were written against. */
const directives: Record<string, Format> = {
  a: (date) => days[date.getDay()]!.slice(0, 3),
  A: (date) => days[date.getDay()]!,
  w: (date) => date.getDay(),
  u: (date) => date.getDay() || 7,
  b: (date) => months[date.getMonth()]!.slice(0, 3),
  h: (date) => months[date.getMonth()]!.slice(0, 3),
  B: (date) => months[date.getMonth()]!,
  Y: (date) => date.getFullYear(),
  y: (date) => padded(date.getFullYear() % 100),
  m: (date) => padded(date.getMonth() + 1),
  d: (date) => padded(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2, " "),
  j: (date) => padded(dayOfYear(date), 3),
  H: (date) => padded(date.getHours()),
  I: (date) => padded(date.getHours() % 12 || 12),
  M: (date) => padded(date.getMinutes()),
  S: (date) => padded(date.getSeconds()),
  f: (date) => padded(date.getMilliseconds() * 1000, 6),
  p: (date) => (date.getHours() < 12 ? "AM" : "PM"),
  s: (date) => Math.floor(date.getTime() / 1000),
  F: (date) => strftime(date, "%Y-%m-%d"),
  D: (date) => strftime(date, "%m/%d/%y"),
  T: (date) => strftime(date, "%H:%M:%S"),
  R: (date) => strftime(date, "%H:%M"),
  x: (date) => strftime(date, "%m/%d/%y"),
  X: (date) => strftime(date, "%H:%M:%S"),
  c: (date) => strftime(date, "%a %b %e %H:%M:%S %Y"),
  z: () => "",
  Z: () => "",
  n: () => "\n",
  t: () => "\t",
  "%": () => "%",
};

/**
 * Formats a local time. `%-d` and the like drop leading zeros; unknown directives stay as they are. Time zones are
 * empty, as for Python's `datetime.now()`.
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([A-Za-z%])/g, (whole, dash: string, letter: string) => {
    const text = directives[letter]?.(date);
    if (text === undefined) return whole;
    return dash ? String(text).replace(/^[0 ]+(?=.)/, "") : String(text);
  });
}

function padded(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 0);
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000;
}
