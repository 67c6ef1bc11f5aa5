import { type Choice, type Correction, chooseCollective, type LinkMeasurements } from "./choose.ts";
import { type Collective, type CollectiveName, openCollective } from "./collective.ts";
import type { Group } from "./group.ts";
import { solo } from "./solo.ts";

/** A collective that is chosen anew for each size of payload. */
export interface AutoCollective extends Collective {
  /** What was chosen so far and why, by bytes of the encoded payload. */
  readonly choices: ReadonlyMap<number, Choice>;
  choiceFor(payloadBytes: number): Choice;
}

/**
 * Takes the collective that is predicted to be fastest. All ranks need the same measurements and correction: `measure`
 * and `calibrate` give them.
 */
export function autoCollective(group: Group, measurements: LinkMeasurements, correction?: Correction): AutoCollective {
  const choices = new Map<number, Choice>();
  const opened = new Map<CollectiveName, Collective>();
  const chosen = new Map<number, Collective>();
  const choiceFor = (payloadBytes: number): Choice => {
    const choice = choices.get(payloadBytes) ?? chooseCollective(measurements, payloadBytes, correction);
    choices.set(payloadBytes, choice);
    return choice;
  };
  const choose = (elements: number): Collective => {
    const { name } = choiceFor(group.wire.bytes(elements));
    const collective = opened.get(name) ?? openCollective(name, group);
    opened.set(name, collective);
    chosen.set(elements, collective);
    return collective;
  };
  const collectiveFor = (elements: number) => chosen.get(elements) ?? choose(elements);
  if (group.size === 1) return { name: "auto", choices, choiceFor, allReduce: solo.allReduce };
  return {
    name: "auto",
    choices,
    choiceFor,
    allReduce: (values) => collectiveFor(values.length).allReduce(values),
  };
}
