// Numbers of the command line. All throw, with the bounds, where a text is none.

/** @param {string} text @param {number} [least] @param {number} [most] */
export function whole(text, least = 1, most = Number.MAX_SAFE_INTEGER) {
  const value = Number(text);
  if (Number.isInteger(value) && text.trim() && value >= least && value <= most) return value;
  throw new Error(`"${text}" is not a whole number from ${least} to ${most}`);
}

/** @param {string} text @param {number} least @param {number} most */
export function number(text, least, most) {
  const value = Number(text);
  if (text.trim() && value >= least && value <= most) return value;
  throw new Error(`"${text}" is not a number from ${least} to ${most}`);
}

/** A list with commas. @param {string} text @param {number} least @param {number} most */
export function numbers(text, least, most) {
  const items = text.split(",").filter(Boolean);
  if (!items.length) throw new Error("a list is empty");
  return items.map((item) => number(item, least, most));
}
