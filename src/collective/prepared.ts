/**
 * An action on fixed places in memory: it can be run any number of times. Everything that it needs is made when it is
 * prepared, so that running it leaves the garbage collector nothing to do.
 */
export type Prepared = () => void;

/** Runs actions one after the other. */
export function inTurn(actions: readonly Prepared[]): Prepared {
  if (actions.length === 1) return actions[0]!;
  return () => {
    for (let i = 0; i < actions.length; i++) actions[i]!();
  };
}
