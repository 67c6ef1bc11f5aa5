import { expect, it } from "vitest";
import { allocateNative, type NativeMemory } from "#stellium/native/memory";

it("native memory of many sizes that comes and goes leaves nothing behind", () => {
  const kept: NativeMemory[] = [];
  const run = (rounds: number) => {
    for (let i = 0; i < rounds; i++) {
      // Sizes of copies of KV cells, each a little larger than those before.
      const memory = allocateNative(130_000 + ((i * 7919) % 400_000));
      memory.view.fill(1);
      kept.push(memory);
      if (kept.length > 12) kept.splice((i * 31) % kept.length, 1)[0]![Symbol.dispose]();
    }
    return process.memoryUsage.rss();
  };
  const before = run(500);
  expect(run(8000) - before).toBeLessThan(20e6);
  for (const memory of kept) memory[Symbol.dispose]();
});
