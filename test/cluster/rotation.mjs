// Slices of 1 MB, which are obtained one after the other: `node rotation.mjs CACHE_DIR LIMIT FIRST` goes on with that until
// it is killed, and says over IPC which one it has.
import { fileURLToPath } from "node:url";
import { CacheLimit } from "#stellium/cluster/cacheLimit";
import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { obtainSlice } from "#stellium/weights/obtainSlice";
import { sliceDirectory } from "#stellium/weights/sliceDirectory";
import { layOutSlice } from "#stellium/weights/sliceLayout";

const ggml = openGgml();
const device = cpuDevice(ggml);
const values = 250_000;

/** The header of the only slice of a model. @param {number} model */
export function tinyHeader(model) {
  const rows = { start: 0, count: 1 };
  const columns = { start: 0, count: values };
  /** @type {import("#stellium/weights/sliceHeader").SliceContent} */
  const content = {
    model: { hash: model.toString(16).padStart(2, "0").repeat(32), name: `model ${model}` },
    share: {},
    blocks: [{ kind: "shared", layer: 0, tensors: [{ name: "a", kind: "vector", type: "F32", rows, columns }] }],
  };
  return layOutSlice(content, ggml, device);
}

/** Bytes of a slice's file. */
export const tinyBytes = 4 * values + 3 * 4096;

/**
 * Has the slice of a model in a cache, which may take so many bytes.
 * @param {string} cacheDir @param {number} model @param {number | undefined} limit
 * @param {{ asked?: number, disk?: import("#stellium/weights/sliceDisk").SliceDisk }} [told] counts what was asked for
 */
export async function obtainTiny(cacheDir, model, limit, told = {}) {
  const source = {
    begin: async () => {
      told.asked = (told.asked ?? 0) + 1;
    },
    async *block() {
      yield new Uint8Array(4 * values).fill(model);
    },
  };
  const room = new CacheLimit(cacheDir, limit, told.disk);
  const directory = sliceDirectory(cacheDir);
  const disk = told.disk && { disk: told.disk };
  return await obtainSlice({ ggml, device, directory, header: tinyHeader(model), source, room, ...disk });
}

const [, program, cacheDir = "", limit, first] = process.argv;
if (program === fileURLToPath(import.meta.url)) {
  process.once("disconnect", () => process.exit());
  for (let model = Number(first); ; model++) {
    const hold = await obtainTiny(cacheDir, model % 8, Number(limit));
    await new Promise((resolve) => process.send?.(hold.path, resolve));
    await hold[Symbol.asyncDispose]();
  }
}
