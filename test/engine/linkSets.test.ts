import { describe, expect, it } from "vitest";
import { planLinks } from "#stellium/cluster/linkPlan";
import { peersOf } from "#stellium/engine/linkSets";

describe("the two sets of links between ranks", () => {
  const addresses = [4001, 4002, 4003].map((port) => ({ host: "127.0.0.1", port }));
  const setups = planLinks(addresses, { wire: "f16", cipher: "aes-256-gcm", collective: "auto" });
  const sets = ["engine", "communication"] as const;

  it("have keys that both ends of a link share, one for each direction", () => {
    for (const set of sets) {
      for (const { rank, peers } of setups) {
        for (const [i, { rank: other }] of peers.entries()) {
          const ours = peersOf(set, { peers })[i]!;
          const theirs = peersOf(set, setups[other]!).find((peer) => peer.rank === rank)!;
          expect(ours.sendKey).toEqual(theirs.receiveKey);
        }
      }
    }
  });

  it("have no key in common, with each other or with what was handed out", () => {
    const hex = (key: Uint8Array) => Buffer.from(key).toString("hex");
    const derived = sets.flatMap((set) =>
      setups.flatMap((setup) => peersOf(set, setup).map((peer) => hex(peer.sendKey))),
    );
    const given = setups.flatMap(({ peers }) => peers.map(({ sendKey }) => hex(Buffer.from(sendKey, "base64"))));
    expect(new Set([...derived, ...given]).size).toBe(derived.length + given.length);
  });
});
