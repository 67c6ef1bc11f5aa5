/**
 * Ends this process at once, as `signal` does where nobody listens to it. `process.exit` would stop threads wherever they
 * are, and one that is just loading native code then fails aloud, with a stack of C++ functions.
 */
export function endBySignal(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}
