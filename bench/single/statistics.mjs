/** @param {readonly number[]} values */
export function median(values) {
  return quantile(values, 0.5);
}

/** What the fastest tenth stays below. @param {readonly number[]} values */
export function fastestDecile(values) {
  return quantile(values, 0.1);
}

/**
 * Between the two nearest values where the point falls between them; NaN of nothing.
 * @param {readonly number[]} values
 * @param {number} point 0 to 1
 */
function quantile(values, point) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * point;
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (above - below) * (at - Math.floor(at));
}
