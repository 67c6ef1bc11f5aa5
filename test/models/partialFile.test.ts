import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { leftoverBytes, PartialFile, partialBytes, removePartials } from "#stellium/models/partialFile";

let directory: string;
let target: string;
const isThere = () =>
  stat(target).then(
    () => true,
    () => false,
  );

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "stellium-partial-"));
  target = join(directory, "blob");
});

afterEach(() => rm(directory, { recursive: true }));

const claim = (onWait: (bytes: number) => void = () => {}, signal?: AbortSignal) =>
  PartialFile.claim(target, isThere, onWait, signal);

it("is one writer's at a time, whoever comes, until the file is there", async () => {
  let [writing, most, completed] = [0, 0, 0];
  const write = async (who: number) => {
    for (;;) {
      await using partial = await claim();
      if (partial === undefined) return;
      most = Math.max(most, ++writing);
      await partial.handle.write(`${who},`, (await partial.handle.stat()).size);
      writing--;
      if ((await partial.handle.stat()).size > 20) {
        expect(await partial.complete()).toBe(true);
        completed++;
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, who) => write(who)));
  expect({ writing, most, completed }).toEqual({ writing: 0, most: 1, completed: 1 });
  expect(await readdir(directory)).toEqual(["blob"]);
  expect((await readFile(target, "utf8")).length).toBeGreaterThan(20);
});

it("is not claimed once the file is there, even if it came between a look and the claim", async () => {
  await writeFile(join(directory, "blob.0-abc-01234567.part"), "left");
  let looks = 0;
  const late = async () => {
    if (++looks > 1) return isThere();
    await writeFile(target, "complete");
    return false;
  };
  expect(await PartialFile.claim(target, late, () => {})).toBeUndefined();
  expect(await readdir(directory)).toEqual(["blob"]);
  expect(await readFile(target, "utf8")).toBe("complete");
});

it("leaves nothing beside the file that it becomes", async () => {
  await using partial = await claim();
  await partial!.handle.write("whole");
  await writeFile(join(directory, "blob.0-abc-01234567.part"), "left by another");
  expect(await partial!.complete()).toBe(true);
  expect(await readdir(directory)).toEqual(["blob"]);
});

it("goes on with the longest of what was left, and removes the others", async () => {
  await writeFile(join(directory, "blob.0-abc-01234567.part"), "short");
  await writeFile(join(directory, "blob.0-abd-01234567.part"), "the longest");
  await writeFile(join(directory, "other.0-abd-01234567.part"), "something else");
  expect(await partialBytes(target)).toBe(11);
  const partial = await claim();
  expect((await partial!.handle.readFile()).toString()).toBe("the longest");
  expect((await readdir(directory)).length).toBe(2);
  await partial!.complete();
  expect(await readFile(target, "utf8")).toBe("the longest");
});

it("is left to others when its writer ends, and nothing is where nothing came", async () => {
  const partial = await claim();
  await partial!.handle.write("some");
  await partial![Symbol.asyncDispose]();
  const [name] = await readdir(directory);
  expect(name).toMatch(/^blob\.0-\w+-\w+\.part$/);
  expect(await leftoverBytes(directory)).toBe(4);
  expect(await removePartials(directory)).toBe(4);
  const empty = await claim();
  await empty![Symbol.asyncDispose]();
  expect(await readdir(directory)).toEqual([]);
});

it("is waited for while another process lives, and writes", async () => {
  const other = join(directory, `blob.${process.ppid}-abc-01234567.part`);
  await writeFile(other, "some");
  const stop = new AbortController();
  const told: number[] = [];
  const waiting = claim((bytes) => {
    told.push(bytes);
    stop.abort(new Error("long enough"));
  }, stop.signal);
  await expect(waiting).rejects.toMatchObject({ code: "ABORTED", message: expect.stringContaining("long enough") });
  expect(told).toEqual([4]);
  const longAgo = new Date(Date.now() - 3600e3);
  await utimes(other, longAgo, longAgo);
  await using partial = await claim();
  expect((await partial!.handle.stat()).size).toBe(4);
});

it("is not completed by who has lost it", async () => {
  const partial = await claim();
  await rm(join(directory, (await readdir(directory))[0]!));
  expect(await partial!.complete()).toBe(false);
  expect(await isThere()).toBe(false);
});
