import { beforeAll, describe, expect, it } from "vitest";
import { engineOptions } from "../../bench/answers/cases.mjs";
import { demo } from "../../bench/answers/models.mjs";
import { perplexity, shortText, tokensOf, windowTokens } from "../../bench/answers/perplexity.mjs";
import { Ranks } from "../../bench/answers/ranks.mjs";

const options = { ...engineOptions("Q8_0"), batch: 256, outputs: windowTokens };

/** `npm run bench -- perplexity` says more. */
describe("perplexity of the bundled model, shared out", () => {
  let path: string;
  let alone: number;
  beforeAll(async () => {
    path = (await demo().file())!;
    await using one = await Ranks.start(path, [1], options);
    alone = await perplexity(one.first, tokensOf(path, shortText(), 8));
  });

  it.each([[[1, 1]], [[2, 1, 0, 3]]])("to %j changes by less than 0.1 % where sums travel as f16", async (shares) => {
    await using ranks = await Ranks.start(path, shares, options);
    await ranks.link({ wire: "f16", collective: "exchange" });
    expect(Math.abs((await perplexity(ranks.first, tokensOf(path, shortText(), 8))) / alone - 1)).toBeLessThan(1e-3);
  });

  it("changes by less than 1 % where they travel as q8_0", async () => {
    await using ranks = await Ranks.start(path, [1, 1], options);
    await ranks.link({ wire: "q8_0", collective: "exchange" });
    expect(Math.abs((await perplexity(ranks.first, tokensOf(path, shortText(), 8))) / alone - 1)).toBeLessThan(0.01);
  });
});
