// llama.cpp over a mapped file, as a child process: a JSON request on stdin, a JSON reply on stdout. node-llama-cpp has no
// switch for `use_extra_bufts`, without which llama.cpp keeps a second, converted copy of the weights in memory.
import { json } from "node:stream/consumers";
import koffi from "koffi";
import { nativeLibraries } from "#stellium/native/libraries";
import { llamaVocab } from "#stellium/native/llama";
import { allocatePages, viewNative } from "#stellium/native/memory";

/**
 * @typedef {object} LlamaRequest
 * @property {string} model
 * @property {number} threads
 * @property {number} context
 * @property {number[]} prompt Tokens that are decoded in one batch; may be none.
 * @property {number[]} tokens Those that are decoded one after the other.
 * @property {number} [mostMs] No further token is decoded after so long; all are if absent.
 * @property {boolean} converted Whether weights are converted to the CPU's layout in memory, as llama.cpp does by default.
 *
 * @typedef {object} LlamaReply
 * @property {number} loadMs
 * @property {number} promptMs
 * @property {number[]} stepMs Of each token.
 * @property {number} peakRssBytes
 */

/** Offsets into `struct llama_model_params` and `struct llama_context_params` of llama.cpp v0.5.0. */
const offset = { gpuLayers: 16, loadMode: 24, extraBuffers: 74, context: 0, batch: 4, microBatch: 8 };
const loadModeMmap = 1;
const pageBytes = 4096;
/** Longer than both: what is behind a struct that is passed by value, nobody looks at. */
const roomy = koffi.struct({ bytes: koffi.array("uint8_t", 512) });
const batchOf = koffi.struct({
  count: "int32_t",
  pointers: koffi.array("void *", 6),
});
const request = /** @type {LlamaRequest} */ (await json(process.stdin));
const reply = answer(request);
process.stdout.write(JSON.stringify(reply), () => process.exit(0));

/** @param {LlamaRequest} request @returns {LlamaReply} */
function answer({
  model: path,
  threads,
  context: cells,
  prompt,
  tokens,
  mostMs = Number.POSITIVE_INFINITY,
  converted,
}) {
  // Refuses another release, whose structs may differ.
  llamaVocab();
  const llama = nativeLibraries().llama();
  const started = performance.now();
  const model = loadModel(llama, path, converted);
  const context = openContext(llama, model, cells, threads);
  const loadMs = performance.now() - started;
  const single = llama.func("llama_batch_get_one", batchOf, ["void *", "int32_t"]);
  const decode = llama.func("llama_decode", "int32_t", ["void *", batchOf]);
  const { address, bytes } = allocatePages(pageBytes);
  const room = new Int32Array(viewNative(address, bytes).buffer, 0, bytes / 4);
  const timed = (/** @type {number[]} */ batch) => {
    room.set(batch);
    const before = performance.now();
    if (decode(context, single(address, batch.length)) !== 0) throw new Error("llama_decode failed");
    return performance.now() - before;
  };
  const promptMs = prompt.length === 0 ? 0 : timed(prompt);
  /** @type {number[]} */
  const stepMs = [];
  for (const token of tokens) if (performance.now() - started < mostMs) stepMs.push(timed([token]));
  return { loadMs, promptMs, stepMs, peakRssBytes: process.resourceUsage().maxRSS * 1024 };
}

/** @param {import("koffi").LibraryHandle} llama @param {string} path @param {boolean} converted */
function loadModel(llama, path, converted) {
  const parameters = defaultsOf(llama, "llama_model_default_params");
  parameters.setInt32(offset.gpuLayers, 0, true);
  parameters.setInt32(offset.loadMode, loadModeMmap, true);
  parameters.setUint8(offset.extraBuffers, converted ? 1 : 0);
  const load = llama.func("llama_model_load_from_file", "void *", ["str", roomy]);
  return opened(load(path, bytesOf(parameters)), path);
}

/** @param {import("koffi").LibraryHandle} llama @param {bigint} model @param {number} cells @param {number} threads */
function openContext(llama, model, cells, threads) {
  const parameters = defaultsOf(llama, "llama_context_default_params");
  for (const at of [offset.context, offset.batch, offset.microBatch]) parameters.setUint32(at, cells, true);
  const open = llama.func("llama_init_from_model", "void *", ["void *", roomy]);
  const context = opened(open(model, bytesOf(parameters)), "a context");
  llama.func("void llama_set_n_threads(void *, int32_t, int32_t)")(context, threads, threads);
  return context;
}

/** @param {import("koffi").LibraryHandle} llama @param {string} name */
function defaultsOf(llama, name) {
  const { bytes } = llama.func(name, roomy, [])();
  return new DataView(Uint8Array.from(bytes).buffer);
}

/** @param {DataView} view */
function bytesOf(view) {
  return { bytes: new Uint8Array(view.buffer) };
}

/** @param {bigint | null} pointer @param {string} what @returns {bigint} */
function opened(pointer, what) {
  if (!pointer) throw new Error(`llama.cpp cannot open ${what}`);
  return pointer;
}
