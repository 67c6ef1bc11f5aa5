// Numbers of the command line. All throw, with the bounds, where a text is none.

/** @param {string} text @param {number} [least] @param {number} [most] */
export function whole(text, least = 1, most = Number.MAX_SAFE_INTEGER) {
  const value = number(text, least, most);
  if (Number.isInteger(value)) return value;
  throw new Error(`"${text}" is not a whole number`);
}

/** @param {string} text @param {number} least @param {number} most */
export function number(text, least, most) {
  const value = Number(text);
  if (text.trim() && value >= least && value <= most) return value;
  throw new Error(`"${text}" is not a number from ${least} to ${most}`);
}

/** A list with commas. @param {string} text @param {number} least @param {number} most */
export function numbers(text, least, most) {
  return text.split(",").map((item) => number(item, least, most));
}
