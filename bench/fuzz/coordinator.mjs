// A live coordinator in a process of its own: `node coordinator.mjs MODEL TOKEN CACHE_DIR WORKERS PORT`. Says over IPC where
// devices can join, answers "ask" by what it has written, or why not, "ask and tell" by when it works on that, too, "report"
// by its memory and "state" by what it waits for, and ends by "close".
import { setTimeout as sleep } from "node:timers/promises";
import { StatusBoard } from "#stellium/cluster/status/board";
import { JoinToken } from "#stellium/cluster/token";
import { defaultSampling } from "#stellium/serving/sampler";
import { TextModel } from "#stellium/serving/textModel";

const [path = "", token = "", cacheDir = "", workers = "1", port = "0"] = process.argv.slice(2);
const sampling = { ...defaultSampling, temperature: 0 };
const status = new StatusBoard();

/** @param {object} report */
const say = (report) => process.send?.(report);

// Whoever started it is gone.
process.once("disconnect", () => process.exit());
const model = await TextModel.open(path, {
  threads: 1,
  context: 256,
  status,
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
  if (message === "state") say({ type: "state", state: state() });
  if (message === "ask and tell") void tell();
  if (message === "ask" || message === "ask and tell") say(await answer());
  if (message !== "close") return;
  await model[Symbol.asyncDispose]();
  if (process.connected) process.disconnect();
});

/** Says when a request has a slot. */
async function tell() {
  while (model.slots().every((slot) => slot.state === "idle")) await sleep(1);
  say({ type: "working" });
}

/** Progress of its devices, and the last event of each. */
function state() {
  const team = status.planned?.team;
  const members = team?.members.map((member) => member && `${member.name}: ${member.state}`);
  const events = status.events.slice(-5).map(({ text }) => text);
  return {
    members,
    mending: team?.mending,
    queued: model.queued,
    slots: model.slots().map((slot) => slot.state),
    events,
  };
}

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
