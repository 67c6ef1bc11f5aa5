import { type Choice, type Correction, chooseCollective, type LinkMeasurements } from "./choose.ts";
import { type Collective, type CollectiveName, openCollective } from "./collective.ts";
import type { Group } from "./group.ts";
import { solo } from "./solo.ts";

/** A collective that is chosen anew for each size of payload. */
export interface AutoCollective extends Collective {
  /** What was chosen so far and why, by bytes of the encoded payload. */
  readonly choices: ReadonlyMap<number, Choice>;
}

/**
 * Takes the collective that is predicted to be fastest. All ranks need the same measurements and correction: `measure`
 * and `calibrate` give them.
 */
export function autoCollective(group: Group, measurements: LinkMeasurements, correction?: Correction): AutoCollective {
  const choices = new Map<number, Choice>();
  const opened = new Map<CollectiveName, Collective>();
  const chosen = (payloadBytes: number): Collective => {
    const choice = choices.get(payloadBytes) ?? chooseCollective(measurements, payloadBytes, correction);
    const collective = opened.get(choice.name) ?? openCollective(choice.name, group);
    choices.set(payloadBytes, choice);
    opened.set(choice.name, collective);
    return collective;
  };
  const collectiveFor = group.size === 1 ? () => solo : chosen;
  return {
    name: "auto",
    choices,
    allReduce: (values) => collectiveFor(group.wire.bytes(values.length)).allReduce(values),
  };
}
