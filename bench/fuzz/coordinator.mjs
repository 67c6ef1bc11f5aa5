// A live coordinator in a process of its own: `node coordinator.mjs MODEL TOKEN CACHE_DIR WORKERS PORT`. Says over IPC where
// devices can join, answers "ask" by what it has written, or why not, and "report" by its memory, and ends by "close".
import { JoinToken } from "#stellium/cluster/token";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";

const [path = "", token = "", cacheDir = "", workers = "1", port = "0"] = process.argv.slice(2);
const sampling = { ...defaultSampling, temperature: 0 };

/** @param {object} report */
const say = (report) => process.send?.(report);

// Whoever started it is gone.
process.once("disconnect", () => process.exit());
const model = await TextModel.open(path, {
  threads: 1,
  context: 256,
  cluster: {
    workers: Number(workers),
    local: false,
    listen: { host: "127.0.0.1", port: Number(port) },
    token: JoinToken.parse(token),
    cacheDir,
    collective: "exchange",
    wire: "f32",
    onJoin: ({ address, joined }) => say({ type: "join", port: Number(address.split(":")[1]), joined }),
  },
});
say({ type: "ready" });

process.on("message", async (message) => {
  if (message === "report") say({ type: "report", rss: process.memoryUsage.rss() });
  if (message === "ask") say(await answer());
  if (message !== "close") return;
  await model[Symbol.asyncDispose]();
  if (process.connected) process.disconnect();
});

async function answer() {
  try {
    const request = { prompt: await model.encodePrompt("ROMEO:\n"), maxTokens: 6, sampling, ignoreEos: true };
    let text = "";
    for await (const written of model.generate(request)) text += written.text;
    return { type: "answer", text };
  } catch (error) {
    return { type: "answer", error: /** @type {Error} */ (error).message };
  }
}
