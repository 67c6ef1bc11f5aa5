import { parseGbnf } from "#stellium/serving/grammar/gbnf";
import { Matcher } from "#stellium/serving/grammar/matcher";
import { compileProgram } from "#stellium/serving/grammar/program";

/** Tells whether texts are all that a grammar says. */
export function acceptor(gbnf: string): (text: string) => boolean {
  const matcher = new Matcher(compileProgram(parseGbnf(gbnf)));
  const start = matcher.start();
  return (text) => {
    let state: typeof start | null = matcher.renew(start);
    for (const byte of Buffer.from(text)) state = state && matcher.step(state, byte);
    return state?.complete ?? false;
  };
}
