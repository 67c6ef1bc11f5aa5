const signals = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);

/** A signal to the process becomes an abort, so that children and files go before it does. */
export function abortOnSignals() {
  const controller = new AbortController();
  /** @param {string} name */
  const abort = (name) => controller.abort(new Error(`ended by ${name}`));
  for (const name of signals) process.on(name, abort);
  const end = () => {
    for (const name of signals) process.off(name, abort);
  };
  return { signal: controller.signal, end };
}
