import { expect, test } from "vitest";
import { chooseCollective, type LinkMeasurements, predictMs } from "#stellium/collective/choose";
import { partnersOf } from "#stellium/collective/pairs";

/** A network of equal links. */
function network(size: number, latency: number, megabits: number): LinkMeasurements {
  const table = (value: number) =>
    Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => (i === j ? 0 : value)));
  return { size, latencyMs: table(latency), bytesPerMs: table((megabits * 1000) / 8) };
}

test("predictions are those of the alpha-beta model", () => {
  // 1 ms and 1000 bytes per ms.
  const lan = network(4, 1, 8);
  expect(predictMs("star", lan, 4000)).toBeCloseTo(2 * (1 + 12));
  expect(predictMs("exchange", lan, 4000)).toBeCloseTo(1 + 12);
  expect(predictMs("mesh", lan, 4000)).toBeCloseTo(2 * (1 + 3));
  expect(predictMs("ring", lan, 4000)).toBeCloseTo(6 * (1 + 1));
  expect(predictMs("tree", lan, 4000)).toBeCloseTo(2 * (1 + 4) + (1 + 8) + (1 + 4));
});

test("latency decides for small payloads, rates for large ones", () => {
  expect(chooseCollective(network(8, 1, 300), 4).name).toBe("exchange");
  expect(chooseCollective(network(8, 1, 300), 8 << 20).name).toBe("mesh");
  expect(chooseCollective(network(2, 1, 300), 16384).name).toBe("exchange");
  const { why, alternatives } = chooseCollective(network(8, 1, 300), 16384);
  expect(why).toMatch(/^(mesh|exchange) is predicted to take [\d.]+ ms for 16384 bytes over 8 devices/);
  expect(alternatives).toHaveLength(4);
});

test("what was seen to take longer than predicted is chosen less", () => {
  const lan = network(2, 1, 300);
  const { name, predictedMs } = chooseCollective(lan, 16384, (other) => (other === "exchange" ? 3 : 1));
  expect(name).not.toBe("exchange");
  expect(predictedMs).toBeCloseTo(predictMs(name, lan, 16384));
});

test("a slow device's own rate counts, and where it stands", () => {
  const lan = network(4, 1, 800);
  const slow = { ...lan, bytesPerMs: lan.bytesPerMs.map((row, i) => row.map((rate) => (i === 0 ? rate / 10 : rate))) };
  expect(predictMs("star", slow, 100_000)).toBeCloseTo(1 + 3 + 1 + 30);
  expect(predictMs("exchange", slow, 100_000)).toBeCloseTo(1 + 30);
});

test.each([2, 3, 4, 5, 8, 9, 64])("every pair of %i ranks meets once, and nobody waits in a circle", (size) => {
  const partners = Array.from({ length: size }, (_, rank) => partnersOf(rank, size));
  for (const [rank, list] of partners.entries()) {
    expect(new Set(list).size).toBe(size - 1);
    expect(list).not.toContain(rank);
  }
  const met = partners.map(() => 0);
  const meet = (rank: number) => {
    const partner = partners[rank]![met[rank]!];
    if (partner === undefined || partners[partner]![met[partner]!] !== rank) return false;
    met[rank]!++;
    met[partner]!++;
    return true;
  };
  while (met.some((_, rank) => meet(rank)));
  expect(met).toEqual(partners.map(() => size - 1));
});

test("what trials say of a collective counts where it is more than they scatter", () => {
  const lan = network(2, 1, 1000);
  const chosen = (factor: number) => chooseCollective(lan, 8 << 20, (name) => (name === "ring" ? 1 : factor));
  expect(chooseCollective(lan, 8 << 20).name).toBe("exchange");
  expect(chosen(1.15)).toMatchObject({ name: "exchange", alternatives: [{ name: "ring" }, {}, {}, {}] });
  expect(chosen(1.15).alternatives[0]!.predictedMs).toBeLessThan(chosen(1.15).predictedMs);
  expect(chosen(1.3).name).toBe("ring");
});
