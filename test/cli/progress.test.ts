import { describe, expect, it } from "vitest";
import { Progress } from "#stellium/cli/progress";

/** A stream and a clock for a progress to be seen on. */
function show({ isTTY = true, columns = 80, environment = {} } = {}) {
  const clock = { ms: 0 };
  const written: string[] = [];
  const stream = { isTTY, columns, write: (text: string) => written.push(text) };
  const progress = new Progress("loading", { stream, environment, now: () => clock.ms });
  const at = (ms: number, bytes: number) => {
    clock.ms = ms;
    progress.update(bytes, 4e9);
  };
  return { progress, written, at };
}

describe("on a terminal", () => {
  it("draws one line over and over, and removes it", () => {
    const { progress, written, at } = show();
    at(1000, 1e9);
    at(2000, 2e9);
    progress[Symbol.dispose]();
    progress[Symbol.dispose]();
    expect(written).toEqual([
      "\r\u001b[Kloading 1 GB of 4 GB  [########......................]  1 GB/s  3 s left",
      "\r\u001b[Kloading 2 GB of 4 GB  [###############...............]  1 GB/s  2 s left",
      "\r\u001b[K",
    ]);
  });

  it("shows nothing of what takes but a moment", () => {
    const { progress, written, at } = show();
    at(100, 1e9);
    progress[Symbol.dispose]();
    expect(written).toEqual([]);
  });

  it.each([10, 20, 40, 50, 60, 200])("fits %d columns", (columns) => {
    const { written, at } = show({ columns });
    at(1000, 1e9);
    at(2000, 0);
    for (const text of written) expect(text.replace("\r\u001b[K", "").length).toBeLessThan(columns);
  });
});

describe.each([
  ["elsewhere", { isTTY: false }],
  ["under CI", { environment: { CI: "1" } }],
  ["on a dumb terminal", { environment: { TERM: "dumb" } }],
])("%s", (_, where) => {
  it("writes a line every five seconds", () => {
    const { progress, written, at } = show(where);
    for (let ms = 0; ms <= 12_000; ms += 100) at(ms, ms * 2e5);
    progress[Symbol.dispose]();
    expect(written).toEqual([
      "loading 1 GB of 4 GB, 200 MB/s, 15 s left\n",
      "loading 2 GB of 4 GB, 200 MB/s, 10 s left\n",
    ]);
  });
});
